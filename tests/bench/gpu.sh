#!/usr/bin/env bash
# Everything that wants a GPU, in one call: tests, the step beside PyTorch, CIFAR-10 with accuracy over time, bf16 against f32.
#
#   tests/bench/gpu.sh                         builds with cargo and runs all parts
#   tests/bench/gpu.sh pack DIR                builds, strips and compresses the programs into DIR, for a machine without Rust
#   PROGRAMS=DIR tests/bench/gpu.sh            runs those
#   PARTS="tests table" tests/bench/gpu.sh     some parts: tests, table, cifar, bf16, seconds
#
# CIFAR=FILE|DIR: CIFAR-10 as class folders of JPEG, or a .tar.xz of such; the parts that need it are skipped without.
# KINDS (default "bf16 tf32 f32") and HOW (both, eager, compile) of the table. EPOCHS (default 20) of the CIFAR run. LOG=DIR keeps what is printed, and the runs' metrics.
set -uo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
work=$(mktemp -d)
log=${LOG:-$work/log}
mkdir -p "$log"

build() {
    cargo build --release --features cuda --message-format=short &&
        cargo test --release --features cuda --test all --no-run &&
        cargo bench --features cuda --bench gpu --no-run
}

newest() {
    ls -t "${CARGO_TARGET_DIR:-target}"/release/deps/"$1"-* | grep -v '\.d$' | head -n 1
}

if [ "${1:-}" = pack ]; then
    to=$2
    mkdir -p "$to"
    build || exit 1
    cp "${CARGO_TARGET_DIR:-target}/release/sim" "$to/sim"
    cp "$(newest all)" "$to/all"
    cp "$(newest gpu)" "$to/gpu"
    for program in sim all gpu; do
        strip "$to/$program" && xz -f -T0 "$to/$program"
    done
    ls -l "$to"
    exit
fi

programs=$work/programs
mkdir -p "$programs"
if [ -n "${PROGRAMS:-}" ]; then
    for program in sim all gpu; do
        xz -dc "$PROGRAMS/$program.xz" >"$programs/$program" && chmod +x "$programs/$program"
    done
else
    build || exit 1
    cp "${CARGO_TARGET_DIR:-target}/release/sim" "$programs/sim"
    cp "$(newest all)" "$programs/all"
    cp "$(newest gpu)" "$programs/gpu"
fi

# The CUDA libraries of a PyTorch installation, where the system has none of its own.
python=${PYTHON:-python3}
found=$("$python" -c 'import glob, os, torch; print(":".join(sorted({os.path.dirname(f) for f in glob.glob(os.path.join(
    os.path.dirname(os.path.dirname(torch.__file__)), "nvidia", "**", "lib*.so*"), recursive=True)})))' 2>/dev/null)
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$found
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
wants() { [[ " ${PARTS:-tests table cifar bf16} " == *" $1 "* ]]; }
clock() { echo "## $1 (${SECONDS} s)"; }

if wants tests; then
    clock "tests on the GPU"
    # The tests look for their files where they were built.
    (cd "$root" && CARGO_MANIFEST_DIR=$root SIM_EMULATION=off "$programs/all" gpu --nocapture --test-threads 1) >"$log/tests.txt" 2>&1
    grep -E '^test |panicked|is off|failed|skipped: --device|test result' "$log/tests.txt" | head -n 60
fi

if wants table; then
    clock "the step, images per second"
    repetitions=${REPETITIONS:-5}
    for network in resnet18 resnet50; do
        for kind in ${KINDS:-bf16 tf32 f32}; do
            kernel=; [ $kind = tf32 ] && kernel=cuda-tf32
            env ${kernel:+SIM_KERNEL=$kernel} "$programs/gpu" $network $kind "$repetitions" 2>&1 | tee -a "$log/table.txt"
            timeout 150 "$python" tests/bench/pytorch_gpu.py $network $kind "${HOW:-both}" "$repetitions" 2>&1 | grep -v '^torch\|Warning' | tee -a "$log/table.txt"
        done
    done
fi

data=
if { wants cifar || wants bf16; } && [ -n "${CIFAR:-}" ]; then
    data=$CIFAR
    if [ -f "$CIFAR" ]; then
        mkdir -p "$work/cifar"
        tar -C "$work/cifar" -xf "$CIFAR"
        data=$(dirname "$(find "$work/cifar" -type d -name train | head -n 1)")
    fi
fi
run() { # name, then further flags
    local name=$1
    shift
    "$programs/sim" run simsiam --scale cifar --data "folder:$data" --device cuda:0 --out "$work/$name" --quiet \
        --set measure.probe_always=false "$@" >"$log/$name.txt" 2>&1
    echo "$name: exit $?"
    tail -n 3 "$log/$name.txt"
    find "$work/$name" -name metrics.csv | sort | while read -r metrics; do
        cp "$metrics" "$log/$name-$(basename "$(dirname "$metrics")").csv"
    done
}

if wants cifar && [ -n "$data" ]; then
    clock "CIFAR-10, ResNet-18, batch 512, bf16, ${EPOCHS:-20} epochs"
    run cifar --seeds 1 --set schedule.epochs="${EPOCHS:-20}" --set schedule.checkpoint_every=1000 --set measure.every=5 \
        --set encoder.precision=bf16 --set measure.probe_epochs=0
    cut -d, -f1-9 "$log"/cifar-seed-0.csv
fi

if wants bf16 && [ -n "$data" ]; then
    clock "kNN of bf16 and f32, three seeds, ${SHORT_EPOCHS:-5} epochs"
    for precision in bf16 f32; do
        SIM_KERNEL=$([ $precision = f32 ] && echo cuda-tf32) run "short-$precision" --seeds 3 \
            --set schedule.epochs="${SHORT_EPOCHS:-5}" --set schedule.checkpoint_every=1000 --set measure.every="${SHORT_EPOCHS:-5}" \
            --set encoder.precision=$precision --set measure.probe_epochs=0
        for metrics in "$log/short-$precision"-*.csv; do tail -n 1 "$metrics" | cut -d, -f1-9; done
    done
fi
clock "done"
