#!/bin/sh
# Print the folder that holds the programs that tests need and that no Python index has (nft, ip), unpacking them there first if they are missing.
# Nothing is installed and root is not needed: packages of the machine's own distribution are downloaded into .cache/system and unpacked there.
set -eu

packages='nftables iproute2'
programs='nft ip'
checkout=$(cd "$(dirname "$0")/.." && pwd)
root=$checkout/.cache/system

fail() {
    echo "system_packages.sh: $*" >&2
    exit 1
}

if [ ! -e "$root/.complete" ]; then
    if ! command -v apt-get dpkg-deb >/dev/null; then
        fail "the tests need $programs, which are downloaded with apt-get and dpkg-deb, and this machine has no such programs;" \
            "link them into $root/bin by hand and touch $root/.complete"
    fi
    rm -rf "$root"
    mkdir -p "$root/lists/partial" "$root/cache/archives/partial" "$root/files" "$root/bin"
    apt() {
        apt-get --quiet --quiet -o Dir::State::Lists="$root/lists" -o Dir::Cache="$root/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" \
            -o Dir::Log="$root" "$@" >"$root/apt.log" 2>&1 || fail "can't download $packages: $(tail -n 1 "$root/apt.log")"
    }
    apt update
    # --reinstall: also what this machine has already, so that what is unpacked does not depend on it
    # shellcheck disable=SC2086 # they are words
    apt --yes --no-install-recommends --reinstall --download-only install $packages
    for package in "$root"/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$root/files"
    done
    libraries=$(find "$root/files" -name '*.so.*' -exec dirname {} \; | sort -u | paste -s -d : -)
    for program in $programs; do
        file=$(find "$root/files" -name "$program" -type f -perm -u+x | head -n 1)
        printf '#!/bin/sh\nLD_LIBRARY_PATH='\''%s'\'' exec '\''%s'\'' "$@"\n' "$libraries" "$file" >"$root/bin/$program"
        chmod 0755 "$root/bin/$program"
        "$root/bin/$program" -V >"$root/run.log" 2>&1 || fail "$program was downloaded into $root but does not run: $(tail -n 1 "$root/run.log")"
    done
    rm -rf "$root/lists" "$root/cache"
    touch "$root/.complete"
fi
echo "$root/bin"
