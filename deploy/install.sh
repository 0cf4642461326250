#!/bin/sh
# Install the bundle that this file is in, or upgrade to it, without the Internet: docs/offline.md.
set -eu
umask 022

usage() {
    cat <<'USAGE'
install.sh [--to DIRECTORY] [--profiles NAMES]   containers; the directory is /srv/gateway, the profile edge
install.sh --systemd [--python PROGRAM]          a service of systemd, for a host without Docker
install.sh --check                               only whether all files are as they were packed
  --no-backup    upgrade a node that does not run, of which no backup can be made
USAGE
}

refuse() {
    printf 'install.sh: %s\n' "$1" >&2
    exit 1
}

say() { printf '%s\n' "$*"; }

# --- what is in the bundle ---------------------------------------------------------------------------------------------

# Nothing of the bundle is used before this has passed; bundle.env is one of the files that it covers.
verify() {
    [ -f "$here/SHA256SUMS" ] || refuse "$here has no SHA256SUMS: this is no unpacked bundle"
    command -v sha256sum >/dev/null || refuse "sha256sum is missing: install coreutils"
    if ! checked=$(cd "$here" && sha256sum -c SHA256SUMS 2>&1); then
        bad=$(printf '%s\n' "$checked" | grep -v ': OK$' | head -n 1)
        refuse "the bundle is not as it was packed (${bad#sha256sum: }): copy and unpack it again. Nothing is changed"
    fi
    . "$here/bundle.env"
}

architecture() {
    case $1 in
        x86_64 | amd64) echo amd64 ;;
        aarch64 | arm64) echo arm64 ;;
        *) echo "$1" ;;
    esac
}

right_architecture() {
    [ "$1" = "$arch" ] || refuse "this bundle is for $arch, and this host is $1: take gateway-$version-$1.tar"
}

# --- containers --------------------------------------------------------------------------------------------------------

docker_is_usable() {
    command -v docker >/dev/null || refuse "Docker is missing: install it, or take --systemd"
    if ! engine=$(docker version --format '{{.Server.Arch}}' 2>&1); then
        case $engine in
            *ermission\ denied*) refuse "$(id -un) may not use Docker's socket: run this with sudo" ;;
            *) refuse "Docker does not answer: sudo systemctl start docker" ;;
        esac
    fi
    right_architecture "$(architecture "$engine")"
    compose=${COMPOSE:-docker compose}
    release=$($compose version --short 2>/dev/null) || refuse "Docker has no Compose: install docker-compose-plugin"
    case ${release#v} in
        [01].* | 2.[0-9].* | 2.1[0-9].*) refuse "Compose $release is too old: 2.20 or newer is needed" ;;
    esac
}

# Of the bundle's size on disk once more: while an image is loaded, it is there twice.
room_for_images() {
    docker image inspect "$image" >/dev/null 2>&1 && return 0
    root=$(docker info --format '{{.DockerRootDir}}')
    while [ ! -d "$root" ]; do root=$(dirname "$root"); done
    free=$(df -Pk "$root" | awk 'NR == 2 { print $4 }')
    [ "$free" -ge "$disk_kb" ] ||
        refuse "$root has $((free / 1024)) MiB left and the images need $((disk_kb / 1024)): docker system df"
}

setting() { sed -n "s/^$1=//p" "$to/.env" | tail -n 1; }

# Of every node of this project that runs. A simulator runs the same image and asks no node how it is.
back_up_containers() {
    project=${COMPOSE_PROJECT_NAME:-gateway}
    made=0
    for container in $(docker ps --filter "label=com.docker.compose.project=$project" --format '{{.Names}}'); do
        asked=$(docker inspect --format '{{if .Config.Healthcheck}}{{.Config.Healthcheck.Test}}{{end}}' "$container")
        case $asked in *"gateway healthcheck"*) ;; *) continue ;; esac
        told=$(docker exec "$container" gateway backup create) || refuse "no backup of $container. Nothing is changed"
        kept=$to/backups/$container-$(basename "${told%%,*}")
        (umask 077 && mkdir -p "$to/backups" && docker cp "$container:/var/lib/gateway/${told%%,*}" "$kept" >/dev/null) ||
            refuse "the backup of $container cannot be copied to $kept. Nothing is changed"
        chmod 600 "$kept"
        say "backup: $kept"
        made=$((made + 1))
    done
    [ "$made" -gt 0 ] || [ "$backup" = no ] ||
        refuse "no node runs in $to, so no backup can be made: start it, or take --no-backup. Nothing is changed"
}

digest() { sha256sum "$1" | cut -d ' ' -f 1; }
was_packed() { grep -qxF "$(digest "$to/$1")  $1" "$to/.installed" 2>/dev/null; }

# What the user has changed stays: settings in place, all else beside the new file.
lay_down() {
    while read -r _ path; do
        case $path in images/* | wheelhouse/* | bundle.env | install.sh) continue ;; esac
        if [ -e "$to/$path" ] && ! cmp -s "$here/$path" "$to/$path" && ! was_packed "$path"; then
            case $path in
                config/*)
                    cp "$here/$path" "$to/$path.new"
                    say "kept your $path; that of $version is beside it: $path.new"
                    continue
                    ;;
            esac
            cp "$to/$path" "$to/$path.before-$version"
            say "replaced your $path; it is kept: $path.before-$version"
        fi
        mkdir -p "$(dirname "$to/$path")"
        cp "$here/$path" "$to/$path.part"
        mv "$to/$path.part" "$to/$path"
    done <"$here/SHA256SUMS"
    cp "$here/SHA256SUMS" "$to/.installed"
}

# Of a .env that is there, the one line that says which version runs.
name_the_image() {
    if [ ! -e "$to/.env" ]; then
        (umask 077 && sed "s|^#*GATEWAY_IMAGE=.*|GATEWAY_IMAGE=$image|; s|^COMPOSE_PROFILES=.*|COMPOSE_PROFILES=$wanted|" \
            "$here/.env.example" >"$to/.env.part")
        mv "$to/.env.part" "$to/.env"
        return
    fi
    [ "$(setting GATEWAY_IMAGE)" != "$image" ] || return 0
    cp -p "$to/.env" "$to/.env.before-$version"
    cp -p "$to/.env" "$to/.env.part"
    { grep -v '^GATEWAY_IMAGE=' "$to/.env.before-$version" || true; echo "GATEWAY_IMAGE=$image"; } >"$to/.env.part"
    mv "$to/.env.part" "$to/.env"
}

install_containers() {
    docker_is_usable
    for profile in $(printf %s "$wanted" | tr , ' '); do
        case " $profiles " in *" $profile "*) ;; *) refuse "this bundle has no images for the profile $profile, but for: $profiles" ;; esac
    done
    room_for_images
    mkdir -p "$to" 2>/dev/null && [ -w "$to" ] || refuse "$(id -un) may not write to $to: run this with sudo, or name another with --to"
    if [ -e "$to/.env" ] && [ "$(setting GATEWAY_IMAGE)" != "$image" ]; then back_up_containers; fi
    docker load --quiet --input "$here/images/images.tar.gz" >/dev/null || refuse "the images cannot be loaded. Nothing is changed"
    lay_down
    name_the_image
    cd "$to"
    # What the shell of the administrator has would go before .env.
    unset GATEWAY_IMAGE COMPOSE_PROFILES
    $compose up --detach --no-build --pull never --wait ||
        refuse "$version is installed in $to and not healthy: cd $to && docker compose logs --tail 20"
    say "gateway $version runs. What next, in $to:"
    say "  docker compose exec edge cat first-run.txt                                   the administrator's password"
    say "  docker compose exec edge gateway device add demo --profile thermostat        a first device"
    say "  docs/deploy.md                                                               all else"
}

# --- systemd -----------------------------------------------------------------------------------------------------------

program=/opt/gateway
data=/var/lib/gateway

# The newest that wheels were packed for.
find_python() {
    for candidate in ${python:-python3.14 python3.13 python3.12 python3.11 python3}; do
        found=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        case " $pythons " in *" $found "*) python=$candidate && return ;; esac
    done
    refuse "this bundle is for Python $pythons, and none of them is here: apt-get install python3, or name it with --python"
}

as_node() { (cd "$data" && runuser -u gateway -- "$@"); }

# Beside what runs: an installation that fails leaves the running one as it is.
make_program() {
    new=$program-$version-$(digest "$here/wheelhouse/requirements.txt" | cut -c 1-8)
    [ -e "$new/.complete" ] && return
    rm -rf "$new"
    "$python" -m venv --without-pip "$new" || refuse "$python cannot make $new"
    # A host may have neither pip nor what makes it; a wheel of it is a program.
    set -- "$here"/wheelhouse/pip-*.whl
    "$new/bin/python" "$1/pip" --isolated --quiet \
        --disable-pip-version-check install --root-user-action ignore --no-index --find-links "$here/wheelhouse" \
        --only-binary :all: --require-hashes --requirement "$here/wheelhouse/requirements.txt" ||
        refuse "the wheels cannot be installed into $new. What runs is not changed"
    "$new/bin/gateway" version | grep -q 'hot path *compiled' || refuse "the program in $new is not whole"
    touch "$new/.complete"
}

back_up_service() {
    [ -e "$program/bin/gateway" ] && [ "$(readlink "$program" || true)" != "$new" ] || return 0
    if systemctl is-active --quiet gateway; then
        told=$(as_node "$program/bin/gateway" backup create) || refuse "no backup can be made. Nothing is changed"
        say "backup: $data/$told"
    elif [ "$backup" = yes ]; then
        refuse "the service gateway does not run, so no backup can be made: start it, or take --no-backup. Nothing is changed"
    fi
}

install_service() {
    right_architecture "$(architecture "$(uname -m)")"
    [ "$(id -u)" = 0 ] || refuse "only root may install a service: run this with sudo"
    command -v systemctl >/dev/null || refuse "this host has no systemd: docs/offline.md says what to run without"
    find_python
    make_program
    back_up_service
    id gateway >/dev/null 2>&1 || useradd --system --home-dir "$data" --no-create-home --shell /usr/sbin/nologin gateway
    # Before there were links, the program itself was there.
    if [ -d "$program" ] && [ ! -L "$program" ]; then mv "$program" "$program-before-$version"; fi
    ln -sfn "$new" "$program.new"
    mv -T "$program.new" "$program"
    install -D -m 0644 "$here/deploy/gateway.service" /etc/systemd/system/gateway.service
    [ -e /etc/gateway/gateway.toml ] || install -D -m 0644 "$here/deploy/gateway.toml" /etc/gateway/gateway.toml
    systemctl daemon-reload
    systemctl enable --quiet gateway
    systemctl restart gateway
    tries=60
    until as_node "$program/bin/gateway" healthcheck >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || refuse "$version is installed in $new and not healthy: journalctl -u gateway -n 20"
        sleep 1
    done
    say "gateway $version runs. What next:"
    say "  sudo cat $data/first-run.txt                                                 the administrator's password"
    say "  sudo -u gateway $program/bin/gateway device add demo --profile thermostat    a first device"
    say "  $here/docs/systemd.md                                                        all else"
}

here=$(cd "$(dirname "$0")" && pwd)
to=/srv/gateway wanted=edge python='' backup=yes how=containers
while [ $# -gt 0 ]; do
    case $1 in
        --to | --profiles | --python) [ $# -gt 1 ] || refuse "$1 wants a value" ;;
    esac
    case $1 in
        --to) to=$2 && shift ;;
        --profiles) wanted=$2 && shift ;;
        --python) python=$2 && shift ;;
        --systemd) how=service ;;
        --check) how=nothing ;;
        --no-backup) backup=no ;;
        --help | -h) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
verify
case $how in
    containers) install_containers ;;
    service) install_service ;;
    nothing) say "the bundle is as it was packed: gateway $version for $arch" ;;
esac
