#!/usr/bin/env bash
# The compatibility table: boots each kernel and runs each row in it. Ends non-zero if a row is not as it must be.
# Without options: every row without the probe; the race that this kernel loses on each rung of the probe, where the agent has one, in each service mode
# that loses it; and the starts with something missing, for which Debian's kernels are booted once more, without their modules.
#   kernels.sh [--quick] [--races A,B] [--modes A,B] [--probes off,auto] [--seconds N] [KERNEL...]
# What cannot be run is a row that says why. --quick: the classic kernel and 6.12, the rows that matter most, nothing is built.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 2
seconds=2400
quick=
options=()
kernels=()
while [ $# -gt 0 ]; do
  case $1 in
    --races | --modes | --probes)
      options+=("$1" "$2")
      shift
      ;;
    --seconds)
      seconds=$2
      shift
      ;;
    --quick)
      quick=yes
      seconds=300
      ;;
    *) kernels+=("$1") ;;
  esac
  shift
done
if [ ${#kernels[@]} -eq 0 ]; then
  kernels=(classic 6.12)
  [ -n "$quick" ] || kernels=(classic 6.1 6.12)
fi
if [ -z "${RACETRACK_KERNELS:-}" ] && [ -d ../shared/kernels ]; then
  RACETRACK_KERNELS=$(cd ../shared/kernels && pwd)
  export RACETRACK_KERNELS
fi
export RACETRACK_KERNELS_BUILD=${RACETRACK_KERNELS_BUILD:-$([ -n "$quick" ] && echo no || echo yes)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
table=$work/table
status=0

# boot KERNEL FOLDER [ARGUMENT...]: runs the script `run` of the folder there, shows what it said and adds its rows to the table.
boot() {
  local kernel=$1 folder=$2 code
  echo "== $kernel: booting ${*:3}" >&2
  Tests/VM/boot.sh "$kernel" "$seconds" "$folder" "${@:3}"
  code=$?
  cat "$folder/output" 2>/dev/null
  [ -e "$folder/rows" ] && sed "s/^/$kernel\t/" "$folder/rows" >>"$table"
  if [ "$code" -ne 0 ]; then
    status=1
    [ "$code" -ne 1 ] && printf '%s\t-\t-\t-\t-\t-\t-\t-\t-\t-\tfailed: the machine ended with %s\n' "$kernel" "$code" >>"$table" && tail -20 "$folder/console" 2>/dev/null
  fi
}

for kernel in "${kernels[@]}"; do
  if ! reason=$(Tests/VM/kernel.sh "$kernel" 2>&1 >/dev/null); then
    printf '%s\t-\t-\t-\t-\t-\t-\t-\t-\t-\tskipped: %s\n' "$kernel" "${reason##*$'\n'}" >>"$table"
    continue
  fi
  folder=$work/$kernel
  mkdir -p "$folder"
  extra=()
  [ "$kernel" = classic ] && extra=(--drops-clashes)
  if [ -n "$quick" ] && [ "$kernel" = classic ]; then
    extra+=(--races service --modes nftables,iptables,ipvs)
  elif [ -n "$quick" ]; then
    extra+=(--races reply,late --modes nftables)
  fi
  agent=${RACETRACK_UNDER_TEST:-$PWD/.build/racetrack}
  rungs=
  if [ ${#options[@]} -eq 0 ]; then
    rungs=$("$agent" agent --help | sed -n 's/.*--kernel-probe\.rung=\([a-z|-]*\).*/\1/p')
    # In a quick run the one that the agent takes by itself.
    [ -n "$quick" ] && [ -n "$rungs" ] && rungs=auto
  fi
  {
    printf 'export RACETRACK_UNDER_TEST=%q RACETRACK_PYTHON=false\n' "$agent"
    printf 'uname -rv\n'
    printf '%q ' "$PWD/.build/debug/vmlab" --output /run/out/rows "${extra[@]}" "${options[@]}"
    printf '; code=$?\n'
    if [ -n "$rungs" ]; then
      probes=$(printf '%s' "$rungs" | tr '|' '\n' | sed '/^auto$/!s/^/auto:/' | paste -sd,)
      race=reply
      modes=nftables,iptables
      marks=()
      [ "$kernel" = classic ] && race=service && modes=nftables,iptables,ipvs && marks=(--drops-clashes)
      [ -n "$quick" ] && modes=nftables
      printf '%q ' "$PWD/.build/debug/vmlab" --output /run/out/rows "${marks[@]}" --races "$race" --modes "$modes" --probes "$probes"
      printf '|| code=$?\n'
    fi
    if [ -z "$quick" ] && [ ${#options[@]} -eq 0 ] && [ ! -d ".build/kernels/$kernel/root" ]; then
      printf '%q ' "$PWD/.build/debug/vmlab" --output /run/out/rows --starts all
      printf '|| code=$?\n'
    fi
    printf 'exit $code\n'
  } >"$folder/run"
  boot "$kernel" "$folder"
  if [ -z "$quick" ] && [ ${#options[@]} -eq 0 ] && [ -d ".build/kernels/$kernel/root" ]; then
    bare=$work/$kernel-bare
    mkdir -p "$bare"
    {
      printf 'export RACETRACK_UNDER_TEST=%q RACETRACK_PYTHON=false\n' "$agent"
      printf '%q ' "$PWD/.build/debug/vmlab" --output /run/out/rows --starts all --modules "$PWD/.build/kernels/$kernel/root"
    } >"$bare/run"
    boot "$kernel" "$bare" vm.bare
  fi
done
echo
{
  printf 'kernel\trace\tservices\tprobe\tattached\tsent\tlost\trecall\tprecision\tgrades\toutcome\n'
  cat "$table"
} | column -t -s $'\t'
exit "$status"
