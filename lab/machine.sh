# The first process of a machine, in mount, network and UTS namespaces of its
# own: gives the machine its view of the file system, then sleeps to keep it.
# $1 is the machine's name, $2 the folder that becomes its /var/lib, $3 the folders
# with the libraries of its programs, if it has programs of its own.
set -eu
exec 2>&1
hostname "$1"

mount -t tmpfs -o mode=755 run /run
mkdir -m 1777 /run/lock

# sysfs shows the links of the network namespace that it is mounted in. The
# cgroups lie below it, and are put back.
mkdir /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount -l /run/cgroup
rmdir /run/cgroup

# What daemons write below /etc stays here, and a Docker that the machine itself
# runs is not seen.
mkdir -p /run/lab/etc /run/lab/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/lab/etc,workdir=/run/lab/work etc /etc
rm -rf /etc/docker
mount --bind "$2" /var/lib

# A variable would not do: Docker 20.10 runs itself with an environment of its own.
# What ldconfig remembers for the next time stays here, too.
if [ -n "$3" ]; then
	mkdir /run/lab/ldconfig
	mount --bind /run/lab/ldconfig /var/cache/ldconfig
	echo "$3" | tr : '\n' >/etc/ld.so.conf.d/00-lab.conf
	ldconfig -X
fi

# As systemd leaves it on a real host: what is mounted here is seen in all
# namespaces that are made from this one.
mount --make-rshared /

ip link set lo up
echo up
exec sleep infinity </dev/null >/dev/null 2>&1
