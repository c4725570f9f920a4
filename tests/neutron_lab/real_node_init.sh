#!/bin/sh
# The first process of a real network node: what it starts ends with it, since it is the first of a PID namespace.
# Usage: real_node_init.sh PACKAGES TREE DIRECTORY; the namespaces are there already, the network card phy0 comes.
set -eu
packages=$1 tree=$2 directory=$3

# Programs are where their packages would have put them, for this node only. $tree has those of /bin, /lib and /sbin, and Debian's alternatives.
mount -t overlay overlay -o "lowerdir=$tree:$packages/usr:/usr" /usr
mkdir -p /run/netns /run/openvswitch
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs tmpfs /run/openvswitch
ip link set lo up
until ip link set phy0 up 2>/dev/null; do sleep 0.1; done
echo 1 >/proc/sys/net/ipv4/ip_forward

database=$directory/conf.db
[ -f "$database" ] || ovsdb-tool create "$database" /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server "$database" --remote=punix:/run/openvswitch/db.sock --remote=ptcp:6640:127.0.0.1 --log-file="$directory/ovsdb.log" \
    --pidfile=/run/openvswitch/ovsdb-server.pid --unixctl=/run/openvswitch/ovsdb.ctl --detach
ovs-vsctl --no-wait init
ovs-vswitchd --log-file="$directory/vswitchd.log" --pidfile=/run/openvswitch/ovs-vswitchd.pid --unixctl=/run/openvswitch/vswitchd.ctl --detach
ovs-vsctl --may-exist add-br br-ex -- set bridge br-ex datapath_type=netdev -- --may-exist add-port br-ex phy0
echo ready >"$directory/ready"

# waiting, a shell also buries the processes that lose their parents
while :; do
    sleep 1000 &
    wait $!
done
