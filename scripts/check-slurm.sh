#!/bin/bash
# A sweep of smoke runs on a real Slurm, made on this one machine from Debian's packages: one task runs into its time limit, another is
# killed, and the merged table is that of the same sweep run locally, to the last digit.
set -euo pipefail
cd "$(dirname "$0")/.."

root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -E "$@"; fi; }
if ! command -v slurmctld munged > /dev/null; then
  echo "installing slurm-wlm and munge"
  root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends slurm-wlm munge > /dev/null
fi
cargo build --release -q -p elucidate-sweep -p exp-design-space
sweep=target/release/sweep

dir=$(mktemp -d)
chmod 755 "$dir"
mkdir "$dir/state" "$dir/spool"
name=$(hostname -s)
export SLURM_CONF=$dir/slurm.conf
cat > "$SLURM_CONF" <<CONF
ClusterName=check
SlurmctldHost=$name(127.0.0.1)
AuthType=auth/munge
CredType=cred/munge
SlurmUser=root
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=5,bf_interval=5
JobCompType=jobcomp/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
KillWait=5
ReturnToService=2
MaxArraySize=4
NodeName=$name NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF

stop() {
  # A task that outlives its cluster would report to the next one.
  scancel --me --full --signal=KILL 2> /dev/null || true
  for _ in $(seq 20); do [ "$(squeue -h 2> /dev/null)" ] || break; sleep 0.5; done
  for daemon in slurmd slurmctld; do root pkill -F "$dir/$daemon.pid" 2> /dev/null || true; done
  if [ "${munged:-}" ]; then root pkill -x munged || true; fi
  # They write their state when they end.
  for _ in $(seq 20); do pgrep -x slurmd > /dev/null || pgrep -x slurmctld > /dev/null || break; sleep 0.5; done
  if [ "${keep:-}" ]; then echo "kept: $dir"; else root rm -rf "$dir"; fi
}
trap stop EXIT
if ! munge -n > /dev/null 2>&1; then
  root install -d -o munge -g munge /run/munge
  root [ -f /etc/munge/munge.key ] || root /usr/sbin/mungekey
  root runuser -u munge -- /usr/sbin/munged --foreground 2> /dev/null & munged=ours
  sleep 2
fi
root slurmctld
root slurmd
for _ in $(seq 30); do sinfo -h -o %T 2> /dev/null | grep -q idle && break; sleep 1; done
sinfo

# Six runs: two of them take longer than their time limit.
file=$dir/check.toml
write() {
  cat > "$1" <<TOML
experiment = "design_space"
out = "$2"
at_once = 2
[options]
preset = "smoke"
samples = 10
setting = ["heun steps=3", "euler steps=6"]
threads = 1
[axes]
schedule = ["cosine", "sigmoid"]
[[together]]
seed = [1, 2, 3]
epochs = [2, 3, 250]
TOML
}
write "$file" "$dir/cluster"
submit() { $sweep "$file" --slurm --time 00:02:00 --signal-before 50 --memory 500M --cpus 1 | tail -n "${1:-1}"; }
finished() { $sweep "$file" --status | grep -o '[0-9]* finished' | grep -o '[0-9]*'; }

submit 2
echo "again while they wait:"
submit 1
# The short ones end, the long ones stay.
for _ in $(seq 120); do [ "$(finished)" = 4 ] && [ "$(squeue -h -r -t R -o %i | wc -l)" = 2 ] && break; sleep 1; done
running=$(squeue -h -r -t R -o %i | tail -n 1)
echo "killing task $running"
scancel --signal=KILL --full "$running"
scancel "$running" || true
sleep 8
$sweep "$file" --status
$sweep "$file" --merge > /dev/null && echo "merged while it runs"
submit 1
last=""
pending=""
for _ in $(seq 900); do
  state=$($sweep "$file" --status)
  [ "$state" = "$last" ] || echo "$(date +%T) $state"
  last=$state
  [ "$(finished)" = 6 ] && break
  # Who was requeued waits two minutes by default. Two seconds are enough; begun in the second in which it was requeued, a task is
  # killed: a node takes its new credential for the revoked one.
  before=" $pending "
  pending=$(squeue -h -r -t PD -o %i | tr '\n' ' ')
  for job in $pending; do
    [[ $before == *" $job "* ]] && { scontrol update JobId="$job" StartTime=now 2> /dev/null || true; }
  done
  sleep 2
done
[ "$(finished)" = 6 ] || { keep=1; tail -n 5 "$dir"/cluster/slurm/*.txt; echo "not all runs ended"; exit 1; }
$sweep "$file" --merge
python3 - "$dir/cluster" <<'PY'
import glob, json, sys
sessions = {r["run"]: len(r["resumed"]) for r in map(lambda f: json.load(open(f)), glob.glob(sys.argv[1] + "/*/run.json"))}
print("times gone on with:", *(f"{n} {name}" for name, n in sorted(sessions.items())), sep="\n  ")
assert sum(n > 0 for n in sessions.values()) >= 2, "no task was told of its time limit"
PY

write "$dir/local.toml" "$dir/local"
$sweep "$dir/local.toml" > /dev/null 2>&1
python3 - "$dir/cluster/samples.csv" "$dir/local/samples.csv" <<'PY'
import csv, sys
differ = {"seconds", "threads", "git_revision"}
tables = [[{k: v for k, v in row.items() if k not in differ} for row in csv.DictReader(open(f))] for f in sys.argv[1:]]
assert tables[0] == tables[1], [pair for pair in zip(*tables) if pair[0] != pair[1]][:1]
print(f"{len(tables[0])} rows of the cluster's table are those of the local sweep's, to the last digit")
PY
