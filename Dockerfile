# The root file system of the managed plugin (make plugin): causeway and the
# tools that it calls, with the libraries that they need, and nothing else.
FROM debian:bookworm-slim AS tools
RUN command -v ovs-vsctl ovs-ofctl xtables-legacy-multi \
	|| { apt-get update && apt-get install -y --no-install-recommends openvswitch-switch iptables; }
RUN set -e; mkdir -p /rootfs/run /rootfs/tmp /rootfs/var/lib/causeway /rootfs/host/run; \
	for tool in ovs-vsctl ovs-ofctl xtables-legacy-multi; do \
		path=$(command -v $tool); \
		cp --parents -L $path $(ldd $path | grep -o '/[^ ]*') /rootfs; \
	done; \
	for extension in standard comment physdev; do \
		cp --parents $(find /usr/lib -name "libxt_$extension.so") /rootfs; \
	done; \
	for name in iptables-legacy ip6tables-legacy; do \
		ln -s xtables-legacy-multi /rootfs$(dirname $(command -v xtables-legacy-multi))/$name; \
	done

FROM scratch
COPY --from=tools /rootfs /
COPY bin/causeway /usr/bin/causeway
ENTRYPOINT ["/usr/bin/causeway", "serve"]
