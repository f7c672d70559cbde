#!/usr/bin/env bash
# Runs TestRealEngine against several engines, each in a network namespace of
# its own, and TestSwarm with engines as docker-28.5 is. With -record it also records their answers for the ordinary tests:
#
#   scripts/engines.sh [-record] [docker-20.10|docker-26.1|docker-28.5|docker-28.5-min-1.44|podman]...
#
# It needs root on Debian 12 with docker.io, podman, jq, curl and the programs
# that the tests use. Newer engines are unpacked from newer releases of Debian,
# of the mirror that this machine has in its apt sources. Nothing is installed,
# and everything that the script makes is removed at the end.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

record=
if [ "${1:-}" = -record ]; then
  record=yes
  shift
fi
[ $# -gt 0 ] || set -- docker-20.10 docker-26.1 docker-28.5 docker-28.5-min-1.44 podman
[ "$(id -u)" = 0 ] || { echo 'run it as root: it starts engines' >&2; exit 1; }

tmp=$(mktemp -d)
netns=dnsdock-engines-$$
pid=

# end stops the engine, and removes its processes, mounts and namespace.
end() {
  [ -n "$pid" ] || return 0
  if [ -d "$tmp/podman.d" ]; then # its containers have namespaces that only podman removes
    nsenter --net="/run/netns/$netns" "${podman[@]}" rm --all --force --time 0 >/dev/null || true
  fi
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  local left
  for left in $(ip netns pids "$netns" 2>/dev/null); do kill -KILL "$left" 2>/dev/null || true; done
  local mount
  awk -v dir="$tmp/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r mount; do
    umount -l "$mount" || true
  done
  ip netns del "$netns"
  rm -rf "$tmp/podman.d"
  pid=
}

cleanup() {
  local rc=$?
  trap - EXIT
  set +e
  end
  rm -rf "$tmp"
  exit "$rc"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# mirror prints the address of the Debian mirror in this machine's apt sources.
mirror() {
  local codename address
  codename=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
  # shellcheck disable=SC2016 # apt-get expands it
  address=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' |
    awk -v codename="$codename" '$1 == codename && $2 == "main" && !seen++ { print $3 }')
  [ -n "$address" ] || { echo "apt has no source for $codename main" >&2; return 1; }
  printf '%s\n' "$address"
}

# unpack SUITE unpacks that release's engine, and libraries for it.
unpack() {
  local suite=$1 at=$tmp/$1 address
  [ ! -e "$at/root" ] || return 0
  mkdir -p "$at/lists/partial" "$at/cache/archives/partial" "$at/root"
  address=$(mirror)
  echo "deb $address $suite main" >"$at/sources.list"
  local options=(-q -o "Dir::Etc::sourcelist=$at/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$at/lists" -o "Dir::Cache=$at/cache" -o APT::Sandbox::User=root)
  local packages=(docker.io libc6 libsystemd0 libdevmapper1.02.1 libseccomp2 libnftables1)
  ( # patchelf of this release
    cd "$at" && apt-get "${options[@]}" update && apt-get "${options[@]}" download "${packages[@]}" &&
      apt-get -q download patchelf
  ) >"$at/log" 2>&1 || { cat "$at/log"; return 1; }
  for deb in "$at"/*.deb; do dpkg -x "$deb" "$at/root"; done
  local program
  for program in dockerd docker-proxy; do # dockerd starts itself again, so the path has to be in the program
    "$at/root/usr/bin/patchelf" --set-interpreter "$at/root/usr/lib64/ld-linux-x86-64.so.2" --force-rpath \
      --set-rpath "$at/root/usr/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu" "$at/root/usr/sbin/$program"
  done
}

# start NAME starts an engine at $tmp/NAME.sock.
start() {
  local name=$1 dir=$tmp/$1.d root command
  mkdir "$dir"
  echo '{}' >"$dir/daemon.json"
  ip netns add "$netns"
  nsenter --net="/run/netns/$netns" ip link set lo up
  local docker=(--config-file "$dir/daemon.json" --data-root "$dir/data" --exec-root "$dir/exec"
    --pidfile "$dir/pid" -H "unix://$tmp/$name.sock")
  case $name in
  docker-20.10) command=(dockerd "${docker[@]}") ;;
  docker-26.1 | docker-28.5*)
    local suite=sid
    [ "$name" != docker-26.1 ] || suite=trixie
    unpack "$suite"
    root=$tmp/$suite/root
    dockerd=("$root/usr/sbin/dockerd" --userland-proxy-path "$root/usr/sbin/docker-proxy")
    command=("${dockerd[@]}" "${docker[@]}")
    ;;
  podman)
    # Without these limits it needs more rights.
    printf '[containers]\ndefault_ulimits = ["nofile=1024:1024","nproc=1024:1024"]\n' >"$dir/containers.conf"
    podman=(env "CONTAINERS_CONF=$dir/containers.conf" podman --root "$dir/data" --runroot "$dir/run"
      --tmpdir "$dir/tmp" --network-config-dir "$dir/net")
    command=("${podman[@]}" system service -t 0 "unix://$tmp/$name.sock")
    ;;
  *)
    echo "unknown engine $name" >&2
    return 1
    ;;
  esac
  [ "$name" != docker-28.5-min-1.44 ] || export DOCKER_MIN_API_VERSION=1.44
  nsenter --net="/run/netns/$netns" "${command[@]}" >"$dir/log" 2>&1 </dev/null &
  pid=$!
  unset DOCKER_MIN_API_VERSION
  export DOCKER_HOST=unix://$tmp/$name.sock
  for _ in $(seq 300); do
    if docker version >"$dir/version" 2>&1; then return 0; fi
    sleep 0.1
  done
  tail -n 30 "$dir/log" "$dir/version"
  return 1
}

call() { curl -sS --unix-socket "$tmp/$1.sock" "http://docker$2" "${@:3}"; }

# answers NAME records what an engine says of some containers, without the
# fields that dnsdock does not read.
answers() {
  local name=$1 app=$tmp/app version
  cat >"$tmp/app.go" <<'GO'
package main
import ("os"; "time")
func main() { if len(os.Args) > 1 { os.Exit(1) }; time.Sleep(time.Hour) }
GO
  CGO_ENABLED=0 go build -o "$app" "$tmp/app.go"
  tar -C "$tmp" -c app | docker import -c 'ENTRYPOINT ["/app"]' - team/app:1 >/dev/null
  docker network create --subnet 10.201.1.0/24 one >/dev/null
  docker network create --subnet 10.201.2.0/24 --internal an-inside >/dev/null
  docker network create --ipv6 --subnet fd00:201:3::/64 --subnet 10.201.3.0/24 six >/dev/null
  (
    filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%7D
    call "$name" "/events?filters=$filters" -N --max-time 15 2>/dev/null || true
  ) >"$tmp/events" &
  local events=$!
  sleep 0.5
  docker run -d --name multi --network six --label com.dnsdock.alias=m.docker team/app:1 >/dev/null
  docker network connect one multi
  docker network connect an-inside multi
  docker run -d --name hosted --network host team/app:1 >/dev/null
  docker run -d --name shared --network container:multi team/app:1 >/dev/null
  docker run -d --name none --network none team/app:1 >/dev/null
  docker run -d --name plain --expose 80 -e DNSDOCK_TTL=7 team/app:1 >/dev/null
  docker run -d --name gone team/app:1 >/dev/null
  call "$name" '/containers/create?name=sick' -X POST -H 'Content-Type: application/json' \
    -d '{"Image":"team/app:1","Healthcheck":{"Test":["CMD","/app","fail"],
      "Interval":1000000000,"Retries":1,"Timeout":5000000000}}' >/dev/null
  docker start sick >/dev/null
  for _ in $(seq 50); do
    [ "$name" != podman ] || call "$name" /v4.0.0/libpod/containers/sick/healthcheck >/dev/null
    if [ "$(docker inspect -f '{{.State.Health.Status}}' sick)" = unhealthy ]; then break; fi
    sleep 0.2
  done
  docker stop -t 1 gone >/dev/null
  docker rename plain renamed
  version=$(call "$name" /_ping -D - -o /dev/null | tr -d '\r' | sed -n 's/^[Aa]pi-[Vv]ersion: //p')
  local inspects=$tmp/inspects id
  : >"$inspects"
  for id in $(docker ps -aq --no-trunc); do
    call "$name" "/v$version/containers/$id/json" | jq -c '{
      Id, Name, Image,
      State: {Status: .State.Status, Health: .State.Health | (if . == null then null else {Status} end)},
      HostConfig: {NetworkMode: .HostConfig.NetworkMode},
      Config: (.Config | {Image, Env, Labels, ExposedPorts}),
      NetworkSettings: {Networks: .NetworkSettings.Networks}}' >>"$inspects"
  done
  call "$name" "/v$version/containers/json?all=1" | jq -c '[.[] |
    {Id, Names, State, Status, NetworkSettings, Health} | with_entries(select(.value != null))]' >"$tmp/list"
  call "$name" "/v$version/networks" | jq -c '[.[] | {Id, Name, Driver, Internal}]' >"$tmp/networks"
  wait "$events"
  {
    printf '{"version":"%s",\n"list":[\n' "$version"
    jq -c '.[]' "$tmp/list" | paste -sd ',' | sed 's/},{"Id"/},\n{"Id"/g'
    printf '],\n"inspect":[\n'
    paste -sd ',' "$inspects" | sed 's/},{"Id"/},\n{"Id"/g'
    printf '],\n"networks":%s,\n"events":[\n' "$(cat "$tmp/networks")"
    jq -c 'select(.Action | startswith("exec_") | not) |
      {Type, Action, Actor, status, id} | with_entries(select(.value != null))' "$tmp/events" |
      paste -sd ',' | sed 's/},{"Type"/},\n{"Type"/g'
    printf ']}\n'
  } >"testdata/engines/$name.json"
  jq -e . "testdata/engines/$name.json" >/dev/null
  docker rm -f shared hosted none renamed gone sick >/dev/null
  docker rm -f multi >/dev/null # podman does not remove a container whose network others share
  docker network rm one an-inside six >/dev/null
}

go test -c -o "$tmp/tests" ./internal/e2e
failed=
for name; do
  echo "== $name"
  start "$name"
  docker version --format 'version {{.Server.Version}}, API {{.Server.APIVersion}} (minimum {{.Server.MinAPIVersion}})'
  if [ -n "$record" ]; then
    answers "$name"
  fi
  tests='^TestRealEngine$'
  [ "$name" != docker-28.5 ] || tests='^Test(RealEngine|Swarm)$'
  # In the package's directory, as go test does.
  if ! (cd internal/e2e && DNSDOCK_DOCKERD="${dockerd[*]-}" exec nsenter --net="/run/netns/$netns" \
    "$tmp/tests" -test.run "$tests" -test.v) \
    >"$tmp/$name.out" 2>&1; then
    failed="$failed $name"
    grep -vE '^=== ' "$tmp/$name.out" | tail -n 300
  fi
  grep -E '^ *--- ' "$tmp/$name.out"
  unset DOCKER_HOST
  end
done
[ -z "$failed" ] || { echo "FAIL:$failed" >&2; exit 1; }
