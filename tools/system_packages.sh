#!/bin/sh
# Print the folder that holds programs that tests need and that no Python index has, unpacking them there first if they are missing.
# Usage: system_packages.sh [SET]; the sets are below, `system` is the one without argument, and each lies in .cache under its own name.
# Nothing is installed and root is not needed: packages of the machine's own distribution are downloaded into .cache and unpacked there.
set -eu

# programs: a program, where its package has it, and an argument with which it says its version and ends; those that have no such argument are not
# tried. A set without programs is used as a whole tree, the folder `files` beside the folder printed.
case ${1:-system} in
system)
    packages='nftables iproute2 redis-server rabbitmq-server'
    programs='
nft              usr/sbin/nft                                       -V
ip               sbin/ip                                            -V
redis-server     usr/bin/redis-server                               -v
erl              usr/lib/erlang/bin/erl                             +V
epmd             usr/lib/erlang/erts-*/bin/epmd
rabbitmq-server  usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server
'
    ;;
mariadb)
    packages='mariadb-server-core mariadb-client-core'
    programs='
mariadbd         usr/sbin/mariadbd                                  --version
mariadb          usr/bin/mariadb                                    --version
'
    ;;
network-node)
    packages='openvswitch-switch dnsmasq-base keepalived haproxy conntrack ipset iptables ebtables iputils-arping iputils-ping isc-dhcp-client iproute2 procps kmod'
    programs=
    ;;
*)
    echo "system_packages.sh: there is no set '$1'" >&2
    exit 1
    ;;
esac
checkout=$(cd "$(dirname "$0")/.." && pwd)
root=$checkout/.cache/${1:-system}

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
    find "$root/files/usr/lib" -path '*/erlang/*' -name erl -type f -exec sed -i "s|^\( *ROOTDIR=\)/usr/lib/erlang|\1'$root/files/usr/lib/erlang'|" {} +
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
