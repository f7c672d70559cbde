#!/usr/bin/env bash
# Makes what a release consists of:
#
#   scripts/release.sh VERSION [DIRECTORY]
#
# DIRECTORY, which is dist if it is not given, gets static binaries, packages for
# Debian, images, a list of what the binary is made of, and SHA256SUMS. VERSION is
# as v1.2.3. PLATFORMS="linux-amd64" makes it for these only. The same commit, Go and
# CA certificates give the same bytes. It needs Go, git, jq, dpkg-deb, and GNU tar. The
# images load with docker load, podman load and skopeo: each is an OCI archive that
# holds docker save's manifest too.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=${1:-}
if ! [[ $version =~ ^v[0-9]+\.[0-9]+\.[0-9]+([.~+-][0-9A-Za-z.~+-]*)?$ ]]; then
  echo "usage: scripts/release.sh VERSION [DIRECTORY], with a version as v1.2.3" >&2
  exit 2
fi
dist=${2:-dist}
mkdir -p "$dist"
dist=$(cd "$dist" && pwd)
if [ -n "$(ls -A "$dist")" ]; then
  echo "release.sh: $dist is not empty: remove what is in it, or name another directory" >&2
  exit 2
fi
platforms=${PLATFORMS:-linux-amd64 linux-arm64 linux-armv7 linux-riscv64 darwin-amd64 darwin-arm64}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} # of all files; dpkg-deb reads it too
export SOURCE_DATE_EPOCH
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
certs=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}

# pack writes the files of a directory as a tar.
pack() {
  tar -C "$1" --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -c .
}

# binary builds the program for a platform as OS-ARCH, or linux-armv7.
binary() {
  local os=${1%-*} arch=${1#*-} arm=
  if [ "$arch" = armv7 ]; then arch=arm arm=7; fi
  CGO_ENABLED=0 GOOS=$os GOARCH=$arch GOARM=$arm go build -trimpath -tags nethttpomithttp2 \
    -ldflags "-s -w -buildid= -X main.version=$version" -o "$dist/dnsdock-$version-$1" .
}

# package makes the .deb of a binary for an architecture of Debian.
package() {
  local root=$work/deb-$2 share
  share=$root/usr/share
  install -D "$dist/dnsdock-$version-$1" "$root/usr/bin/dnsdock"
  install -D -m 644 packaging/dnsdock.1 "$share/man/man1/dnsdock.1"
  gzip -9n "$share/man/man1/dnsdock.1"
  install -D -m 644 packaging/dnsdock.bash "$share/bash-completion/completions/dnsdock"
  install -D -m 644 packaging/_dnsdock "$share/zsh/vendor-completions/_dnsdock"
  install -D -m 644 packaging/dnsdock.fish "$share/fish/vendor_completions.d/dnsdock.fish"
  install -D -m 644 LICENSE "$share/doc/dnsdock/copyright"
  install -D -m 644 packaging/default "$root/etc/default/dnsdock"
  mkdir -p "$root/usr/lib/systemd/system" "$root/DEBIAN"
  sed '/^#   /d; s|/usr/local/bin/dnsdock|/usr/bin/dnsdock|' dnsdock.service >"$root/usr/lib/systemd/system/dnsdock.service"
  install -m 755 packaging/preinst packaging/postinst packaging/prerm packaging/postrm "$root/DEBIAN"
  echo /etc/default/dnsdock >"$root/DEBIAN/conffiles"
  cat >"$root/DEBIAN/control" <<CONTROL
Package: dnsdock
Version: ${version#v}
Architecture: $2
Maintainer: dnsdock <https://github.com/rayje/dnsdock>
Installed-Size: $(du -k --apparent-size -s "$root" | cut -f 1)
Section: net
Priority: optional
Suggests: docker.io | docker-ce
Homepage: https://github.com/rayje/dnsdock
Description: DNS server that discovers Docker containers
 It answers <container>.<image>.docker with the addresses of running containers,
 for containers and for the host, and forwards all other names.
CONTROL
  dpkg-deb --root-owner-group -Zxz --build "$root" "$dist/dnsdock_${version#v}_$2.deb" >/dev/null
}

# blob moves a file into the image in work/image, and prints its descriptor.
blob() {
  local type=$1 file=$2 sum size
  sum=$(sha256sum "$file" | cut -d ' ' -f 1)
  size=$(stat -c %s "$file")
  mv "$file" "$work/image/blobs/sha256/$sum"
  jq -nc --arg type "$type" --arg sum "sha256:$sum" --argjson size "$size" '{mediaType: $type, digest: $sum, size: $size}'
}

# image makes the archive of an image of a binary for an architecture.
image() {
  local root=$work/root-$1 layer config manifest oci=application/vnd.oci.image
  rm -rf "$work/image"
  mkdir -p "$root/etc/ssl/certs" "$work/image/blobs/sha256"
  install "$dist/dnsdock-$version-linux-$1" "$root/dnsdock"
  install -m 644 "$certs" "$root/etc/ssl/certs/ca-certificates.crt"
  pack "$root" >"$work/layer.tar"
  jq -nc --arg arch "$1" --arg created "$created" --arg diff "sha256:$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)" '{
    created: $created, architecture: $arch, os: "linux",
    config: {
      Entrypoint: ["/dnsdock"], ExposedPorts: {"53/udp": {}, "53/tcp": {}, "80/tcp": {}},
      Healthcheck: {Test: ["CMD", "/dnsdock", "-healthcheck"], Interval: 30e9, Timeout: 5e9, StartPeriod: 5e9}
    },
    rootfs: {type: "layers", diff_ids: [$diff]}
  }' >"$work/config"
  gzip -9n "$work/layer.tar"
  layer=$(blob $oci.layer.v1.tar+gzip "$work/layer.tar.gz")
  config=$(blob $oci.config.v1+json "$work/config")
  jq -nc --arg type $oci.manifest.v1+json --argjson config "$config" --argjson layer "$layer" \
    '{schemaVersion: 2, mediaType: $type, config: $config, layers: [$layer]}' >"$work/manifest"
  manifest=$(blob $oci.manifest.v1+json "$work/manifest")
  jq -nc --arg type $oci.index.v1+json --arg arch "$1" --arg name "dnsdock:$version" --argjson manifest "$manifest" '{
    schemaVersion: 2, mediaType: $type, manifests: [$manifest + {
      platform: {architecture: $arch, os: "linux"},
      annotations: {"io.containerd.image.name": $name, "org.opencontainers.image.ref.name": ($name | split(":")[1])}
    }]
  }' >"$work/image/index.json"
  echo '{"imageLayoutVersion":"1.0.0"}' >"$work/image/oci-layout"
  jq -nc --arg name "dnsdock:$version" --argjson config "$config" --argjson layer "$layer" '
    def path: "blobs/" + sub(":"; "/");
    [{Config: ($config.digest | path), RepoTags: [$name], Layers: [$layer.digest | path]}]' >"$work/image/manifest.json"
  pack "$work/image" >"$dist/dnsdock-$version-image-$1.tar"
}

# components lists the modules that the binary is made of, as CycloneDX 1.5.
components() {
  go version -m -json "$dist/dnsdock-$version-${platforms%% *}" |
    jq --arg version "$version" --arg created "$created" '{
      bomFormat: "CycloneDX", specVersion: "1.5", version: 1,
      metadata: {timestamp: $created, component: {type: "application", name: "dnsdock", version: $version}},
      components: ([{name: "std", version: .GoVersion, purl: ("pkg:golang/std@" + (.GoVersion | ltrimstr("go")))}] +
        [.Deps[]? | {name: .Path, version: .Version, purl: "pkg:golang/\(.Path)@\(.Version)"}] |
        map({type: "library"} + .))
    }' >"$dist/dnsdock-$version.cdx.json"
}

for platform in $platforms; do
  binary "$platform"
  case $platform in
  linux-armv7) package "$platform" armhf ;;
  linux-*) package "$platform" "${platform#linux-}" ;;
  esac
  case $platform in
  linux-amd64 | linux-arm64) image "${platform#linux-}" ;;
  esac
done
components
(cd "$dist" && sha256sum dnsdock* >SHA256SUMS)
ls -l "$dist"
