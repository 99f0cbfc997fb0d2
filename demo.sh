#!/usr/bin/env bash
# make demo: two Docker hosts, one network, and a look at it.
set -eu
cd "$(dirname "$0")"
lab=bin/causeway-lab

say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
on() { printf '\033[2m%s$ %s\033[0m\n' "$1" "${*:2}"; "$lab" exec "$@"; }

say "two Docker hosts (engines are fetched once, that takes a minute)"
"$lab" up --hosts 2

say "h2 has joined the cluster that h1 began, with a token"
on h1 causeway token ls
on h2 causeway hosts

say "one network, created on h1"
on h1 docker network create -d causeway --subnet=192.168.1.0/24 foo >/dev/null
timeout 30 sh -c "until '$lab' exec h2 docker network inspect foo >/dev/null 2>&1; do :; done"
on h2 docker network ls --filter driver=causeway

say "a container on each host"
on h1 docker run -itd --net=foo --name=web busybox >/dev/null
on h2 docker run -itd --net=foo --name=db busybox >/dev/null

say "they find each other by name"
for pair in "h1 web db" "h2 db web"; do
	read -r host from to <<<"$pair"
	timeout 30 sh -c "until '$lab' exec '$host' docker exec '$from' nslookup '$to' >/dev/null 2>&1; do :; done"
	on "$host" docker exec "$from" ping -c 3 -i 0.2 "$to"
done

say "the cluster as h1 sees it"
on h1 causeway status
cat <<'END'

Look around while it is up:
  bin/causeway-lab list
  bin/causeway-lab exec h1 docker exec -it web sh
  bin/causeway-lab exec h1 causeway endpoints
  bin/causeway-lab exec h1 causeway resolve db --from web
  bin/causeway-lab exec h2 ip netns
  bin/causeway-lab logs h1
Take it down:
  sudo make lab-down
END
