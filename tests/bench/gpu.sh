#!/usr/bin/env bash
# Everything that wants a GPU, in one call: tests, the step beside PyTorch, CIFAR-10 with accuracy over time, bf16 against f32.
#
#   tests/bench/gpu.sh                         builds with cargo and runs all parts
#   tests/bench/gpu.sh pack DIR                builds, strips and compresses the programs into DIR, for a machine without Rust
#   PROGRAMS=DIR tests/bench/gpu.sh            runs those
#   PARTS="tests table" tests/bench/gpu.sh     some parts: tests, table, cifar, bf16
#
# Eight or nine minutes on an H200, by estimate. First torch.compile fills its cache and the table is measured, alone; then the CIFAR run
# trains beside the tests and the short runs, so the seconds in its metrics mean nothing unless PARTS=cifar. An interrupted script
# ends its programs and keeps what there is.
#
# CIFAR=FILE|DIR: CIFAR-10 as class folders of JPEG, or a .tar.xz of such; the parts that need it are skipped without.
# KINDS (default "bf16 tf32", also f32) and HOW (both, eager, compile) of the table. EPOCHS (default 200) of the CIFAR run.
# LOG=DIR keeps what is printed, and the runs' metrics. SECONDS_LEFT (default 560): when the CIFAR run has to end, if it has not.
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
found=$("$python" -c 'import glob, importlib.util as u, os
site = os.path.dirname(os.path.dirname(u.find_spec("torch").origin))
libraries = glob.glob(os.path.join(site, "nvidia", "**", "lib*.so*"), recursive=True)
print(":".join(sorted({os.path.dirname(f) for f in libraries})))' 2>/dev/null)
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$found TORCHINDUCTOR_CACHE_DIR=$work/inductor PYTHONUNBUFFERED=1
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
wants() { [[ " ${PARTS:-tests table cifar bf16} " == *" $1 "* ]]; }
clock() { echo "## $1 (${SECONDS} s)"; }
cifar_run= compilers=
# In the background, with a process group of its own: its number is left in $begun.
begin() {
    set -m
    "$@" &
    begun=$!
    set +m
}
end() {
    for group in $cifar_run $compilers; do
        kill -- -$group
    done 2>/dev/null
    [ -z "$cifar_run" ] || keep cifar
    rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

data=
if { wants cifar || wants bf16; } && [ -n "${CIFAR:-}" ]; then
    data=$CIFAR
    if [ -f "$CIFAR" ]; then
        mkdir -p "$work/cifar"
        tar -C "$work/cifar" -xf "$CIFAR"
        data=$(dirname "$(find "$work/cifar" -type d -name train | head -n 1)")
    fi
fi
# kNN as published figures have it: 200 neighbours, temperature 0.1; measured at quarters of the run.
train() { # name, epochs, precision, then further flags
    local name=$1 epochs=$2 precision=$3
    shift 3
    exec "$programs/sim" run simsiam --scale cifar --data "folder:$data" --device cuda:0 --out "$work/$name" \
        --set schedule.epochs="$epochs" --set schedule.checkpoint_every=1000 --set measure.every=$(((epochs + 3) / 4)) \
        --set measure.probe_always=false --set measure.probe_epochs=0 --set measure.knn_k=200 --set measure.knn_temperature=0.1 \
        --set encoder.precision="$precision" "$@" >"$log/$name.txt" 2>&1
}
keep() { # name
    find "$work/$1" -name metrics.csv | sort | while read -r metrics; do
        cp "$metrics" "$log/$1-$(basename "$(dirname "$metrics")").csv"
    done
}
# A program that hangs ends after so many seconds.
within() { timeout --foreground -k 5 "$@"; }
pytorch() { # network, kind, how, repetitions
    within 240 "$python" tests/bench/pytorch_gpu.py "$@" 2>&1 | grep -v '^torch\|Warning'
}

compile_kinds() { # network
    for kind in ${KINDS:-bf16 tf32}; do pytorch "$1" $kind compile 1 >/dev/null; done
}
if wants table && [ "${HOW:-both}" != eager ]; then
    for network in resnet18 resnet50; do
        begin compile_kinds $network
        compilers="$compilers $begun"
    done
fi

if wants table; then
    [ -n "$compilers" ] && clock "torch.compile fills its cache" && wait $compilers
    compilers=
    clock "the step, images per second"
    repetitions=${REPETITIONS:-5}
    for network in resnet18 resnet50; do
        for kind in ${KINDS:-bf16 tf32}; do
            kernel=; [ $kind = tf32 ] && kernel=cuda-tf32
            within 120 env ${kernel:+SIM_KERNEL=$kernel} "$programs/gpu" $network $kind "$repetitions" 2>&1 | tee -a "$log/table.txt"
            [ $kind = bf16 ] && within 120 env SIM_CUDNN=ranked "$programs/gpu" $network $kind "$repetitions" 2>&1 |
                sed 's/^sim/sim, ranked/' | tee -a "$log/table.txt"
            pytorch $network $kind "${HOW:-both}" "$repetitions" | tee -a "$log/table.txt"
        done
    done
fi

if wants cifar && [ -n "$data" ]; then
    clock "CIFAR-10, ResNet-18, batch 512, bf16, ${EPOCHS:-200} epochs: begun"
    begin train cifar "${EPOCHS:-200}" bf16 --seeds 1
    cifar_run=$begun
fi
if wants tests; then
    clock "tests on the GPU"
    # The tests look for their files where they were built. One process each: a failed kernel ends its process.
    export SIM_EMULATION=off
    named() { CARGO_MANIFEST_DIR=$root "$programs/all" gpu --list "$@" | sed -n 's/: test$//p'; }
    tests=$(named | grep -vxF "$(named --ignored)")
    [ -n "$tests" ] || echo "the tests do not start"
    for test in $tests; do
        CARGO_MANIFEST_DIR=$root within 400 "$programs/all" "$test" --exact --nocapture >"$work/test.txt" 2>&1
        echo "$test: exit $?"
        grep -E 'panicked|failed;|^skipped|by turns' -A2 "$work/test.txt" | head -n 120
        cat "$work/test.txt" >>"$log/tests.txt"
    done
fi

if wants tests; then
    clock "the same bytes from two processes, by cuDNN's own ranking"
    for process in 1 2; do
        within 120 env SIM_CUDNN=ranked "$programs/sim" run byol --scale smoke --seeds 1 --device cuda:0 --out "$work/repeat$process" --quiet \
            >"$log/repeat.txt" 2>&1 || tail -n 3 "$log/repeat.txt"
    done
    (cd "$work/repeat1" 2>/dev/null && find . -name weights.safetensors | sort) | while read -r weights; do
        cmp "$work/repeat1/$weights" "$work/repeat2/$weights" && echo "$weights: the same"
    done
fi

if wants bf16 && [ -n "$data" ]; then
    clock "kNN of bf16 and f32, resnet8, three seeds, ${SHORT_EPOCHS:-10} epochs"
    for precision in bf16 f32; do
        (train "short-$precision" "${SHORT_EPOCHS:-10}" $precision --seeds 3 --set 'encoder.backbone={resnet8={width=32}}' \
            --set encoder.projector.dim=512)
        echo "$precision: exit $?"
        keep "short-$precision"
        for metrics in "$log/short-$precision"-*.csv; do tail -n 1 "$metrics" | cut -d, -f1-9; done
    done
fi

if [ -n "$cifar_run" ]; then
    while kill -0 $cifar_run 2>/dev/null && [ $SECONDS -lt "${SECONDS_LEFT:-560}" ]; do sleep 1; done
    kill -- -$cifar_run 2>/dev/null
    wait $cifar_run
    clock "CIFAR-10: exit $?"
    cifar_run=
    keep cifar
    cut -d, -f1-9 "$log"/cifar-seed-0.csv
fi
clock "done"
