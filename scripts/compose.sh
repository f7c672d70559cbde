#!/usr/bin/env bash
# Tries Compose v2 and buildx, as newer releases of Debian have them, with the
# engine of this machine:
#
#   scripts/compose.sh [trixie|sid]...
#
# It builds the image by buildx, starts compose.yaml and the example in docs/setup.md, and asks for
# their names. It needs Docker, Go, dig, curl and the mirror in this machine's apt
# sources. Nothing is installed, and what it makes in the engine is removed at the
# end, the build cache only if there was none before.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ $# -gt 0 ] || set -- trixie sid
tmp=$(mktemp -d)
cache=$(docker system df --format '{{.Type}} {{.TotalCount}}' | sed -n 's/^Build Cache //p')
run=try-$$ address=127.0.0.77 base=golang:1.26 made=
export DOCKER_GID DNSDOCK_ADDRESS=$address DNSDOCK_HTTP_PORT=18053 COMPOSE_IGNORE_ORPHANS=1
DOCKER_GID=$(stat -c %g /var/run/docker.sock)

cleanup() {
  local rc=$?
  trap - EXIT
  set +e
  down >/dev/null 2>&1
  for image in $made; do docker rmi -f "$image" >/dev/null 2>&1; done
  if [ "$cache" = 0 ]; then docker builder prune -af >/dev/null 2>&1; fi
  rm -rf "$tmp"
  exit "$rc"
}
trap cleanup EXIT

down() {
  docker compose -p "$run" -f "$tmp/compose.yaml" down -v
  docker compose -p "shop$$" -f "$tmp/shop.yaml" down -v
}

# fetch makes the plugins of a release those of docker.
fetch() {
  local at=$tmp/$1 address
  mkdir -p "$at/lists/partial" "$at/cache/archives/partial" "$at/root" "$tmp/config"
  # shellcheck disable=SC2016 # apt-get expands it
  address=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/\?$')
  echo "deb $address $1 main" >"$at/sources.list"
  local options=(-q -o "Dir::Etc::sourcelist=$at/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State::lists=$at/lists" -o "Dir::Cache=$at/cache" -o APT::Sandbox::User=root)
  (
    cd "$at" && apt-get "${options[@]}" update && apt-get "${options[@]}" download docker-compose docker-buildx
  ) >"$at/log" 2>&1 || { cat "$at/log"; return 1; }
  for deb in "$at"/*.deb; do dpkg -x "$deb" "$at/root"; done
  rm -rf "$tmp/config/cli-plugins"
  mv "$at/root/usr/libexec/docker/cli-plugins" "$tmp/config/"
  export DOCKER_CONFIG=$tmp/config
  docker compose version
  docker buildx version
}

# make_base makes the image that Dockerfile.scratch builds in, of this machine's Go, if it is not there.
make_base() {
  local root=$tmp/base
  if docker image inspect "$base" >/dev/null 2>&1; then return; fi
  made="$made $base"
  mkdir -p "$root/usr/local" "$root/etc/ssl/certs" "$root/tmp" "$root/root"
  cp -a "$(go env GOROOT)/." "$root/usr/local/go/"
  cp -L "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/ssl/certs/ca-certificates.crt"
  tar -C "$root" -c . | docker import -c 'ENV PATH=/usr/local/go/bin' -c 'ENV HOME=/root' \
    -c "ENV GOPROXY=$(go env GOPROXY)" -c "ENV GOSUMDB=$(go env GOSUMDB)" -c 'ENV GOTOOLCHAIN=local' - "$base" >/dev/null
  rm -rf "$root"
}

# answers waits until a name has as many addresses as is said.
answers() {
  local try got
  for ((try = 0; try < 600; try++)); do
    got=$(dig "@$address" +short +tries=1 +time=1 "$1" A | grep -c '^[0-9]') || true
    if [ "$got" = "$2" ]; then
      printf '%-28s %s\n' "$1" "$(dig "@$address" +short "$1" A | sort | paste -sd ' ')"
      return
    fi
    sleep 0.1
  done
  echo "FAIL: $1 has $got addresses; want $2"
  docker ps -a
  curl -sf "http://127.0.0.1:$DNSDOCK_HTTP_PORT/services"
  return 1
}

for suite; do
  echo "== $suite"
  fetch "$suite"
  make_base
  made="$made $run/dnsdock $run/nginx:1.25 $run/redis:7"
  docker buildx build --network host --allow network.host --load -f Dockerfile.scratch -t "$run/dnsdock" . \
    >"$tmp/log" 2>&1 || { tail -n 30 "$tmp/log"; exit 1; }
  docker image inspect -f 'the image has {{.Size}} bytes' "$run/dnsdock"
  docker tag "$run/dnsdock" "$run/nginx:1.25"
  docker tag "$run/dnsdock" "$run/redis:7"
  sed "s|image: dnsdock|image: $run/dnsdock|" compose.yaml >"$tmp/compose.yaml"
  # The example without its first service, which is what compose.yaml has too.
  {
    echo services:
    sed -n '/^## Compose/,/^After/ s/^    //p' docs/setup.md | sed -n '/^  web:/,$p' |
      sed "s|^    image: |&$run/|; s|dns: .*|command: [-http=]|"
  } >"$tmp/shop.yaml"
  docker compose -p "$run" -f "$tmp/compose.yaml" up -d --wait >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
  curl -sf "http://127.0.0.1:$DNSDOCK_HTTP_PORT/readyz"
  docker compose -p "shop$$" -f "$tmp/shop.yaml" up -d --scale db=2 >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
  answers web.shop.docker 1
  answers www.docker 1
  answers "shop$$-db-1.redis.docker" 1
  answers "db.shop$$.docker" 2
  answers "2.db.shop$$.docker" 1
  docker compose -p "shop$$" -f "$tmp/shop.yaml" up -d --scale db=1 >/dev/null 2>&1
  answers "db.shop$$.docker" 1
  down >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
done
echo 'all is well'
