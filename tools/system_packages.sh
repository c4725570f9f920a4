#!/bin/sh
# Print the folder that holds the programs that tests need and that no Python index has (nft, ip, redis-server, rabbitmq-server, epmd), unpacking them
# there first if they are missing.
# Nothing is installed and root is not needed: packages of the machine's own distribution are downloaded into .cache/system and unpacked there.
set -eu

packages='nftables iproute2 redis-server rabbitmq-server'
checkout=$(cd "$(dirname "$0")/.." && pwd)
root=$checkout/.cache/system

# A program, where its package has it, and an argument with which it says its version and ends; those that have no such argument are not tried.
programs='
nft              usr/sbin/nft                                       -V
ip               sbin/ip                                            -V
redis-server     usr/bin/redis-server                               -v
erl              usr/lib/erlang/bin/erl                             +V
epmd             usr/lib/erlang/erts-*/bin/epmd
rabbitmq-server  usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server
'

fail() {
    echo "system_packages.sh: $*" >&2
    exit 1
}

if [ "$(cat "$root/.complete" 2>/dev/null)" != "$packages" ]; then
    if ! command -v apt-get dpkg-deb >/dev/null; then
        fail "the tests need the programs of the packages $packages, which are downloaded with apt-get and dpkg-deb, and this machine has no such" \
            "programs; link them into $root/bin by hand and write '$packages' into $root/.complete"
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
    # Erlang's start script knows its own folder by an absolute path
    find "$root/files/usr/lib/erlang" -name erl -type f -exec sed -i "s|^\( *ROOTDIR=\)/usr/lib/erlang|\1'$root/files/usr/lib/erlang'|" {} +
    libraries=$(find "$root/files" -name '*.so.*' -exec dirname {} \; | sort -u | paste -s -d : -)
    echo "$programs" | while read -r program path version; do
        [ -n "$program" ] || continue
        # shellcheck disable=SC2086 # the path is a pattern
        file=$(find "$root/files"/$path) || fail "$packages have no $path"
        # shellcheck disable=SC2016 # PATH is the one at the time of the call
        printf '#!/bin/sh\nLD_LIBRARY_PATH='\''%s'\'' PATH='\''%s'\'':$PATH exec '\''%s'\'' "$@"\n' "$libraries" "$root/bin" "$file" >"$root/bin/$program"
        chmod 0755 "$root/bin/$program"
        if [ -n "$version" ] && ! "$root/bin/$program" "$version" >"$root/run.log" 2>&1; then
            fail "$program was downloaded into $root but does not run: $(tail -n 1 "$root/run.log")"
        fi
    done
    rm -rf "$root/lists" "$root/cache"
    echo "$packages" >"$root/.complete"
fi
echo "$root/bin"
