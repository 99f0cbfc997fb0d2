#!/usr/bin/env bash
# make demo: two Docker hosts, one network, and a look at it.
set -eu
cd "$(dirname "$0")"
lab=bin/causeway-lab

say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
on() { printf '\033[2m%s$ %s\033[0m\n' "$1" "${*:2}"; "$lab" exec "$@"; }

say "two Docker hosts (engines are fetched once, that takes a minute)"
"$lab" up --hosts 2

say "one network, made on h1"
on h1 docker network create -d causeway --subnet=192.168.1.0/24 foo >/dev/null
timeout 30 sh -c "until '$lab' exec h2 docker network inspect foo >/dev/null 2>&1; do :; done"
on h2 docker network ls --filter driver=causeway

say "a container on each host"
for host in h1 h2; do on "$host" docker run -itd --net=foo --name=busybox busybox >/dev/null; done

say "they talk"
for pair in "h1 h2" "h2 h1"; do
	read -r from to <<<"$pair"
	peer=$("$lab" exec "$to" docker inspect -f '{{.NetworkSettings.Networks.foo.IPAddress}}' busybox)
	on "$from" docker exec busybox ping -c 3 -i 0.2 "$peer"
done

say "the cluster as h1 sees it"
on h1 causeway status
cat <<'END'

Look around while it is up:
  bin/causeway-lab list
  bin/causeway-lab exec h1 docker exec -it busybox sh
  bin/causeway-lab exec h1 causeway endpoints
  bin/causeway-lab exec h2 ip netns
  bin/causeway-lab logs h1
Take it down:
  sudo make lab-down
END
