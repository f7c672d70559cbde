# Written by: go test ./internal/config -run TestFlagList -update
_dnsdock() {
  local cur=${COMP_WORDS[COMP_CWORD]} flag= words= word IFS=$' \n'
  COMPREPLY=()
  if [[ $cur == = ]]; then
    flag=${COMP_WORDS[COMP_CWORD - 1]} cur=
  elif [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
    flag=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  case ${flag/#--/-} in
    '') words=' -dns= -ttl= -match= -health -host-address= -domain= -environment= -alias -alias-domain= -names= -compose -nameserver= -allow= -cache= -forcettl -transfer= -transfer-ns= -transfer-key-file= -docker= -all -filter= -network= -published -swarm -tlsverify -tlscacert= -tlscert= -tlskey= -http= -http-token-file= -http-open -http-readonly -state= -hosts= -log= -verbose -debug -healthcheck -version -help' ;;
    -match) words='all closest' ;;
    -names) words='compose hostname alias id hyphen host' ;;
    -log) words='text json' ;;
    -transfer-key-file | -tlscacert | -tlscert | -tlskey | -http-token-file | -state | -hosts)
      compopt -o filenames 2>/dev/null
      IFS=$'\n'
      COMPREPLY=($(compgen -f -- "$cur"))
      ;;
  esac
  [[ $cur != --* ]] || words=${words// -/ --}
  for word in $words; do
    [[ $word == *= ]] || word+=' '
    [[ $word != "$cur"* ]] || COMPREPLY+=("$word")
  done
}
complete -o nospace -F _dnsdock dnsdock
