#!/usr/bin/env bash
# A small, real SLURM cluster on this one machine, for tests.
#
#   cluster.sh install   install the Debian packages (root, apt)
#   cluster.sh start     write the configuration and start the daemons
#   cluster.sh status    daemons, nodes, queue; exit 0 only if all is up
#   cluster.sh stop      cancel this cluster's jobs, stop its daemons
#   cluster.sh clean     stop, then remove the cluster's directory
#   cluster.sh env       print what a shell needs: eval "$(cluster.sh env)"
#
# Everything (configuration, key, sockets, state, logs, pids) lives in
# SLURM_LOCAL_DIR; no SLURM, munge or MariaDB file under /etc, /run or /var is
# used.  Daemons listen on loopback only and are stopped only by the pids
# recorded there.  No systemd, no cgroups.  To change settings, stop first.
#
# Settings (environment):
#   SLURM_LOCAL_DIR    directory of the cluster            (/tmp/coto-slurm)
#   SLURM_LOCAL_NODES  virtual nodes n1..nN                (2)
#   SLURM_LOCAL_CPUS   CPUs each node claims to have       (2)
#   SLURM_LOCAL_MEM    memory each node claims to have, MB (4000)
#   SLURM_LOCAL_GPUS   fake GPUs of each node              (1)
#   SLURM_LOCAL_PORT   first of the TCP ports used         (17000)
#   SLURM_LOCAL_DBD    1: add slurmdbd + MariaDB for sacct (0)
set -euo pipefail

DIR=${SLURM_LOCAL_DIR:-/tmp/coto-slurm}
NODES=${SLURM_LOCAL_NODES:-2}
CPUS=${SLURM_LOCAL_CPUS:-2}
MEM=${SLURM_LOCAL_MEM:-4000}
GPUS=${SLURM_LOCAL_GPUS:-1}
PORT=${SLURM_LOCAL_PORT:-17000}
DBD=${SLURM_LOCAL_DBD:-0}

CLIENTS='sacct sacctmgr salloc sbatch scancel scontrol sinfo squeue sshare sstat'
HOST=$(hostname -s)
export SLURM_CONF=$DIR/etc/slurm.conf
# Only the system's programs: the wrappers of another cluster (see write_config)
# may be first on the caller's PATH.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

say() { printf 'cluster: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

case $DIR in
    /*) [ ${#DIR} -le 80 ] || die 'SLURM_LOCAL_DIR is too long for socket paths' ;;
    *) die 'SLURM_LOCAL_DIR must be absolute' ;;
esac

# --- processes -------------------------------------------------------------

# alive NAME: the recorded pid runs, is that program and has our directory in
# its environment (so that a process that got an old pid is left alone).
alive() {
    local pid
    pid=$(cat "$DIR/run/$1.pid" 2>/dev/null) && [ -n "$pid" ] &&
        grep -qx "${1%%-*}" "/proc/$pid/comm" 2>/dev/null &&
        grep -qaF "SLURM_CONF=$SLURM_CONF" "/proc/$pid/environ" 2>/dev/null
}

# stop_one NAME: TERM, wait up to 10 s, then KILL.
stop_one() {
    local pid i
    if alive "$1"; then
        pid=$(cat "$DIR/run/$1.pid")
        kill -TERM "$pid" 2>/dev/null || true
        for ((i = 0; i < 100; i++)); do
            alive "$1" || break
            sleep 0.1
        done
        if alive "$1"; then kill -KILL "$pid" 2>/dev/null || true; fi
    fi
    rm -f "$DIR/run/$1.pid"
}

# wait_for SECONDS WHAT COMMAND...: poll until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until timeout 10 "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || die "$what did not come up; see $DIR/log"
        sleep 0.1
    done
}

nodes() { seq -f 'n%g' 1 "$NODES"; }

# The daemons of this cluster, in the order in which they start.
daemons() {
    echo munged
    if [ "$DBD" = 1 ]; then printf '%s\n' mariadbd slurmdbd; fi
    echo slurmctld
    nodes | sed 's/^/slurmd-/'
}

# --- configuration ---------------------------------------------------------

write_config() {
    local gres='' gres_types='' accounting i
    umask 022
    mkdir -p "$DIR"/{bin,etc,run,log,state,spool,dev}
    for i in $(nodes); do mkdir -p "$DIR/spool/$i"; done

    if [ ! -s "$DIR/etc/munge.key" ]; then
        (umask 077 && head -c 128 /dev/urandom >"$DIR/etc/munge.key")
    fi

    # A fake GPU is a link to /dev/null.  slurmd wants the File= of gres.conf
    # to be a device; only then does it set CUDA_VISIBLE_DEVICES in a job, as
    # for a real GPU.
    : >"$DIR/etc/gres.conf"
    if [ "$GPUS" -gt 0 ]; then
        for ((i = 0; i < GPUS; i++)); do ln -sf /dev/null "$DIR/dev/gpu$i"; done
        gres="Gres=gpu:fake:$GPUS"
        gres_types='GresTypes=gpu'
        echo "NodeName=n[1-$NODES] Name=gpu Type=fake File=$DIR/dev/gpu[0-$((GPUS - 1))]" \
            >"$DIR/etc/gres.conf"
    fi

    accounting='AccountingStorageType=accounting_storage/none'
    if [ "$DBD" = 1 ]; then
        accounting="AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 1))
AccountingStoragePass=$DIR/run/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment"
    fi

    cat >"$SLURM_CONF" <<EOF
ClusterName=local
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
# Listen on the address of this host's name (checked to be loopback) only.
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny

AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$DIR/run/munge.socket

StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool/%n
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmdPidFile=$DIR/run/slurmd-%n.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdLogFile=$DIR/log/slurmd-%n.log

# No cgroups: follow processes by parentage, sample their memory from /proc,
# and kill a job that goes over its memory.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill

# CPUs, memory and GPUs are consumed one by one.  The nodes may claim more
# than the machine has (config_overrides).
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
DefMemPerCPU=100
$gres_types

# React fast, and keep finished jobs visible to squeue for 10 minutes (the
# Snakemake plugin needs MinJobAge >= 3 x its status interval for squeue).
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
MinJobAge=600
KillWait=2
CompleteWait=0
SlurmctldTimeout=30
SlurmdTimeout=30
ReturnToService=2
MailProg=/bin/true
MaxArraySize=1001
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
$accounting

NodeName=n[1-$NODES] NodeHostname=$HOST NodeAddr=127.0.0.1 Port=[$((PORT + 11))-$((PORT + 10 + NODES))] CPUs=$CPUS RealMemory=$MEM $gres State=UNKNOWN
PartitionName=main    Nodes=ALL Default=YES MaxTime=1-0 PriorityTier=10  PreemptMode=OFF
PartitionName=low     Nodes=ALL MaxTime=1-0 PriorityTier=1   PreemptMode=REQUEUE
PartitionName=scratch Nodes=ALL MaxTime=1-0 PriorityTier=1   PreemptMode=CANCEL
EOF

    # The Snakemake plugin drops SLURM_CONF, like most SLURM_* variables, before
    # the srun of its job step, which then looks for /etc/slurm/slurm.conf.  A
    # wrapper first on PATH (jobs inherit it) puts the variable back.
    cat >"$DIR/bin/srun" <<EOF
#!/bin/sh
SLURM_CONF=$SLURM_CONF exec "/usr/bin/\${0##*/}" "\$@"
EOF
    chmod +x "$DIR/bin/srun"
    for i in $CLIENTS; do ln -sf srun "$DIR/bin/$i"; done

    if [ "$DBD" = 1 ]; then
        cat >"$DIR/etc/slurmdbd.conf" <<EOF
AuthType=auth/munge
AuthInfo=socket=$DIR/run/munge.socket
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$((PORT + 1))
SlurmUser=$(id -un)
CommunicationParameters=NoInAddrAny
PidFile=$DIR/run/slurmdbd.pid
LogFile=$DIR/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=$(id -un)
StorageLoc=slurm_acct_db
EOF
        chmod 600 "$DIR/etc/slurmdbd.conf"
    fi
}

# --- start, one function for each daemon ------------------------------------

start_munged() {
    /usr/sbin/munged --socket="$DIR/run/munge.socket" \
        --key-file="$DIR/etc/munge.key" --pid-file="$DIR/run/munged.pid" \
        --log-file="$DIR/log/munged.log" --seed-file="$DIR/state/munged.seed"
    wait_for 10 munged munge -S "$DIR/run/munge.socket" -n
}

start_mariadbd() {
    local socket=$DIR/run/mariadb.socket

    if [ ! -d "$DIR/db/mysql" ]; then
        mariadb-install-db --no-defaults --datadir="$DIR/db" --user="$(id -un)" \
            --auth-root-authentication-method=socket --skip-test-db \
            >"$DIR/log/mariadb-install.log" 2>&1
    fi
    setsid mariadbd --no-defaults --datadir="$DIR/db" --user="$(id -un)" \
        --socket="$socket" --skip-networking --pid-file="$DIR/run/mariadbd.pid" \
        --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 \
        --log-error="$DIR/log/mariadbd.log" </dev/null >/dev/null 2>&1 &
    wait_for 30 mariadbd mariadb --no-defaults --socket="$socket" -e 'select 1'
}

start_slurmdbd() {
    # slurmdbd reads slurmdbd.conf from the directory of SLURM_CONF, and the
    # database client takes its socket from MYSQL_UNIX_PORT.
    MYSQL_UNIX_PORT=$DIR/run/mariadb.socket slurmdbd
    wait_for 30 slurmdbd sacctmgr -n show cluster
    sacctmgr -i add cluster local >/dev/null 2>&1 || true
    sacctmgr -i add account tests Description=tests Organization=tests >/dev/null 2>&1 || true
    sacctmgr -i add user "$(id -un)" Account=tests >/dev/null 2>&1 || true
}

start_slurmctld() {
    slurmctld -f "$SLURM_CONF"
    wait_for 30 slurmctld scontrol ping
}

start_slurmd() { slurmd -f "$SLURM_CONF" -N "$1"; }

nodes_up() {
    local up
    up=$(sinfo -h -N -p main -o '%N %t' | grep -cE ' (idle|mix|alloc|comp)$') &&
        [ "$up" = "$NODES" ]
}

wait_nodes() {
    local end=$((SECONDS + 30))
    until nodes_up; do
        [ "$SECONDS" -lt "$end" ] || die "the nodes did not come up; see $DIR/log"
        sleep 0.1
    done
}

# --- commands ----------------------------------------------------------------

install() {
    local packages=(slurmctld slurmd slurm-client munge)
    if [ "$DBD" = 1 ]; then packages+=(slurmdbd mariadb-server); fi
    if dpkg -s "${packages[@]}" >/dev/null 2>&1; then return; fi
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${packages[@]}"
}

start() {
    local d
    command -v slurmctld munged >/dev/null || die 'SLURM is missing: run install first'
    getent hosts "$HOST" | grep -qE '^(127\.|::1)' ||
        die "the name $HOST does not stand for a loopback address: add '127.0.0.1 $HOST' to /etc/hosts"
    if status >/dev/null 2>&1; then say 'already up'; return; fi
    write_config
    for d in $(daemons); do
        if alive "$d"; then continue; fi
        rm -f "$DIR/run/$d.pid"
        case $d in
            slurmd-*) start_slurmd "${d#slurmd-}" ;;
            *) "start_$d" ;;
        esac
    done
    wait_nodes
    say "up: $NODES nodes; SLURM_CONF=$SLURM_CONF"
}

status() {
    local d rc=0
    for d in $(daemons); do
        if alive "$d"; then say "$d runs, pid $(cat "$DIR/run/$d.pid")"; else
            say "$d does not run"
            rc=1
        fi
    done
    if [ $rc = 0 ]; then
        nodes_up || rc=1
        sinfo -N -o '%N %P %t %c %m %G'
        squeue
    fi
    return $rc
}

stop() {
    local d i
    [ -d "$DIR/run" ] || return 0
    if alive slurmctld; then
        # SLURM_CONF points at our own slurmctld, so these are our jobs only.
        squeue -h -o %A | sort -u | xargs -r scancel >/dev/null 2>&1 || true
        for ((i = 0; i < 100; i++)); do
            [ -n "$(squeue -h 2>/dev/null)" ] || break
            sleep 0.1
        done
    fi
    # Whatever was started before, with other settings too.
    for d in "$DIR"/run/slurmd-*.pid slurmctld slurmdbd mariadbd munged; do
        stop_one "$(basename "$d" .pid)"
    done
    say stopped
}

clean() {
    [ -f "$SLURM_CONF" ] || return 0 # not a directory of ours
    stop
    rm -rf -- "$DIR"
}

case ${1:-} in
    install | start | status | stop | clean) "$1" ;;
    env) echo "export SLURM_CONF=$SLURM_CONF PATH=$DIR/bin:\$PATH" ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
esac
