# Shared by .ci/run and .ci/nightly: sections with times, tools that are installed when missing, and the parts both run.
# Sourced, never run. Every step runs from the root of a clone and leaves the tree as it found it.

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
CI_STARTED=$SECONDS
SECTION=""
SECTION_STARTED=$SECONDS
SUMMARY=""
JOBS=$(nproc 2>/dev/null || echo 2)
NIGHTLY="${NET_NIGHTLY:-nightly}"
SCRATCH=$(mktemp -d)

finish() {
    local code=$?
    close_section
    [ -z "${REPORT:-}" ] || write_report "$code"
    rm -rf "$SCRATCH"
    printf '\n==== summary\n%s' "$SUMMARY"
    if [ "$code" -eq 0 ]; then
        printf 'all passed in %ss\n' "$((SECONDS - CI_STARTED))"
    else
        printf 'FAILED in "%s" (exit code %s) after %ss\n' "$SECTION" "$code" "$((SECONDS - CI_STARTED))"
    fi
}
trap finish EXIT

# kept COMMAND...: what it prints goes into the report as well. Runs in this shell: a step may set what the next one needs.
kept() {
    printf '\n### %s\n\n' "$SECTION" >>"$SCRATCH/results"
    "$@" > >(tee -a "$SCRATCH/results")
    wait "$!"
}

# write_report CODE: the results of a long run, written whole to REPORT.
write_report() {
    local code=$1 outcome="all passed"
    [ "$code" -eq 0 ] || outcome="FAILED in \"$SECTION\" (exit code $code)"
    mkdir -p "$(dirname "$REPORT")"
    {
        echo "# Nightly: $outcome"
        echo
        echo "Commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown), $(date -u '+%Y-%m-%d %H:%M') UTC, $(rustc --version), $JOBS cores, $((SECONDS - CI_STARTED)) s."
        echo
        echo "| seconds | section |"
        echo "|---|---|"
        sed -n 's/^ *\([0-9]*\)s  \(.*\)$/| \1 | \2 |/p' <<<"$SUMMARY"
        [ ! -s "$SCRATCH/results" ] || sed '/^###/!s/^\(.\)/    \1/' "$SCRATCH/results"
    } >"$REPORT.partial"
    mv "$REPORT.partial" "$REPORT"
    printf '\nthe report is %s\n' "$REPORT"
}

close_section() {
    [ -n "$SECTION" ] || return 0
    SUMMARY+=$(printf '%6ss  %s' "$((SECONDS - SECTION_STARTED))" "$SECTION")$'\n'
}

# section TITLE: ends the one before and prints how long it took.
section() {
    close_section
    SECTION=$1
    SECTION_STARTED=$SECONDS
    printf '\n==== %s  (%ss so far)\n' "$SECTION" "$((SECONDS - CI_STARTED))"
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# limited MINUTES COMMAND...: a step that hangs fails instead of holding the machine.
limited() {
    local minutes=$1
    shift
    timeout --kill-after=30s "${minutes}m" "$@"
}

has() { command -v "$1" >/dev/null 2>&1; }
has_nightly() { cargo "+$NIGHTLY" --version >/dev/null 2>&1; }

tools() {
    has cargo || fail "cargo is missing: install Rust from https://rustup.rs"
    rustc --version
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
    has cargo-deny || limited 15 cargo install --locked cargo-deny
    if has_nightly; then
        has cargo-fuzz || limited 15 cargo install --locked cargo-fuzz
    fi
    if ! has valgrind && has apt-get && [ "$(id -u)" -eq 0 ]; then
        apt-get install -y -q valgrind >/dev/null 2>&1 || echo "note: valgrind could not be installed; instruction counts are skipped"
    fi
    # The trace page is tested in a browser and its packets with Wireshark's reader; without them those tests say that they were skipped.
    local tool
    for tool in chromium tshark; do
        if ! has "$tool" && has apt-get && [ "$(id -u)" -eq 0 ]; then
            DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$tool" >/dev/null 2>&1 || echo "note: $tool could not be installed; the tests that need it are skipped"
        fi
    done
}

lints() {
    cargo fmt --all --check
    limited 15 cargo clippy --workspace --all-targets -- -D warnings
}

docs() { RUSTDOCFLAGS="-D warnings" limited 15 cargo doc --workspace --no-deps --document-private-items --quiet; }

# Other platforms are checked, not tested, and only where their standard library is installed.
platforms() {
    local host target sysroot checked=0
    host=$(rustc -vV | sed -n 's/^host: //p')
    sysroot=$(rustc --print sysroot)
    for target in aarch64-unknown-linux-gnu x86_64-unknown-linux-gnu x86_64-apple-darwin aarch64-apple-darwin x86_64-pc-windows-gnu x86_64-pc-windows-msvc; do
        [ "$target" != "$host" ] && [ -d "$sysroot/lib/rustlib/$target" ] || continue
        # ring and BLAKE3's assembly want a C compiler for the target, which a cross check need not have.
        echo "cargo check --target $target: kernel and driver, without C code"
        CARGO_TARGET_DIR="$SCRATCH/platforms" limited 10 cargo check --quiet -p net-kernel -p net-io-real --no-default-features --features blake3/pure --target "$target"
        checked=$((checked + 1))
    done
    [ "$checked" -gt 0 ] || echo "note: no other platform's standard library is installed (rustup target add ...); nothing checked"
}

# What drives kernels and worlds is slower and deeper than a codec, and gets more of the time.
fuzz_weight() {
    case $1 in
        scenario) echo 6 ;;
        session) echo 5 ;;
        scenario_text) echo 2 ;;
        *) echo 1 ;;
    esac
}

# fuzz SECONDS: builds all targets, replays the committed corpora, then fuzzes for SECONDS in all, JOBS targets at a time.
fuzz() {
    local seconds=$1 triple targets target sum=0 binary
    if ! has_nightly; then
        echo "note: the toolchain '$NIGHTLY' is missing, and cargo-fuzz needs it: no fuzzing here"
        echo "note: the same bodies ran over their corpora and random bytes in 'cargo test --workspace'"
        return 0
    fi
    # A fresh clone that is told to fuzz must not pass because there was nothing to run.
    targets=$(find fuzz/fuzz_targets -name '*.rs' -exec basename {} .rs \; | sort)
    [ -n "$targets" ] || fail "fuzz/fuzz_targets holds no target"
    # The code under fuzz forbids unsafe, so a memory sanitizer would find nothing and halve the speed.
    limited 30 cargo "+$NIGHTLY" fuzz build --sanitizer none
    triple=$(rustc "+$NIGHTLY" -vV | sed -n 's/^host: //p')
    binary="${CARGO_TARGET_DIR:-fuzz/target}/$triple/release"
    for target in $targets; do sum=$((sum + $(fuzz_weight "$target"))); done
    export -f fuzz_one
    export SCRATCH
    # The longest first, so that no core ends up with nothing to do.
    for target in $targets; do echo "$(fuzz_weight "$target") $target"; done | sort -rn |
        while read -r weight target; do
            echo "$target $((seconds * JOBS * weight / sum + 1))"
        done |
        xargs -P "$JOBS" -L 1 bash -c 'fuzz_one "$1" "$0" "$2"' "$binary"
}

# fuzz_one TARGET FOLDER SECONDS: what it finds goes to fuzz/artifacts; new inputs go to a scratch folder.
fuzz_one() {
    set -euo pipefail
    local target=$1 binary=$2/$1 each=$3 log=$SCRATCH/$1.log
    mkdir -p "$SCRATCH/corpus/$target" "fuzz/artifacts/$target"
    if ! timeout --kill-after=30s "$((each + 300))s" bash -c '
        "$1" -runs=0 -artifact_prefix="fuzz/artifacts/$2/" "fuzz/corpus/$2" &&
        "$1" -max_total_time="$3" -len_control=5 -timeout=20 -rss_limit_mb=2048 -artifact_prefix="fuzz/artifacts/$2/" "$4" "fuzz/corpus/$2"
    ' _ "$binary" "$target" "$each" "$SCRATCH/corpus/$target" >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        echo "error: fuzz target $target failed: its input lies in fuzz/artifacts/$target" >&2
        echo "error: reproduce with: cargo +nightly fuzz run $target fuzz/artifacts/$target/<input>" >&2
        return 1
    fi
    echo "$target: $(find "fuzz/corpus/$target" -type f | wc -l) inputs replayed, $(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log" | tail -1) runs in ${each}s"
}

# coverage: regions that tests and corpora do not reach, file by file, against fuzz/coverage.toml.
coverage() {
    local llvm host profiles=$SCRATCH/profiles binaries objects=() counted=$SCRATCH/uncovered now committed=fuzz/coverage.toml
    host=$(rustc -vV | sed -n 's/^host: //p')
    llvm=$(rustc --print sysroot)/lib/rustlib/$host/bin
    if ! [ -x "$llvm/llvm-cov" ]; then
        echo "installing llvm-tools (rustup component add llvm-tools)"
        rustup component add llvm-tools || fail "llvm-tools is missing: rustup component add llvm-tools"
    fi
    mkdir -p "$profiles"
    # The same random cases in every run, or the numbers would not repeat.
    export PROPTEST_RNG_SEED=1 RUSTC_WORKSPACE_WRAPPER=$PWD/.ci/coverage-rustc LLVM_PROFILE_FILE="$profiles/%p-%m.profraw"
    # What regenerates here is the count; the tests' own golden files stay as they are.
    limited 15 env -u NET_REGENERATE cargo test --quiet -p net-wire -p net-session --lib --tests >/dev/null
    # Crews and the links of a mesh are tested where kernels meet.
    limited 15 env -u NET_REGENERATE cargo test --quiet -p net-kernel --test crew --test mesh >/dev/null
    limited 15 env -u NET_REGENERATE cargo test --quiet -p net-io-sim --test relays >/dev/null
    limited 15 env -u NET_REGENERATE cargo test --quiet -p net-tests --test corpora --test protocol_tables >/dev/null
    binaries=$(cargo test --no-run -p net-wire -p net-session --lib --tests 2>&1 && cargo test --no-run -p net-tests --test corpora --test protocol_tables 2>&1 && cargo test --no-run -p net-kernel --test crew --test mesh 2>&1 && cargo test --no-run -p net-io-sim --test relays 2>&1)
    unset PROPTEST_RNG_SEED RUSTC_WORKSPACE_WRAPPER LLVM_PROFILE_FILE
    while read -r now; do objects+=(--object "$now"); done < <(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' <<<"$binaries")
    [ "${#objects[@]}" -gt 0 ] || fail "no test was built"
    "$llvm/llvm-profdata" merge -sparse "$profiles"/*.profraw -o "$SCRATCH/profile"
    "$llvm/llvm-cov" export -summary-only -instr-profile="$SCRATCH/profile" "${objects[@]:1}" |
        sed 's/{"filename":/\n&/g' |
        sed -n 's/^{"filename":"[^"]*\/\(kernel\/\(wire\|session\)\/src\/[^"]*\)".*"regions":{"count":[0-9]*,"covered":[0-9]*,"notcovered":\([0-9]*\).*/\1 \3/p' |
        grep -v '/fuzz.rs \|tests.rs ' | sort >"$counted"
    [ -s "$counted" ] || fail "llvm-cov reported nothing of kernel/wire and kernel/session"
    ratchet "$counted" "$committed"
}

# ratchet COUNTED COMMITTED: the sums per crate may only fall. Another compiler divides code differently: then it only reports.
ratchet() {
    local counted=$1 committed=$2 compiler crate now before worse=0
    compiler=$(rustc --version)
    if [ -n "${NET_REGENERATE:-}" ]; then
        {
            echo "# Regions that neither tests nor corpora reach. They may only become fewer; written by NET_REGENERATE=1 .ci/coverage."
            echo "rustc = \"$compiler\""
            echo
            echo "[uncovered]"
            sed 's/^\(.*\) \([0-9]*\)$/"\1" = \2/' "$counted"
        } >"$committed"
    fi
    for crate in kernel/wire kernel/session; do
        now=$(awk -v crate="$crate/" 'index($1, crate) == 1 { sum += $2 } END { print sum + 0 }' "$counted")
        before=$(sed -n "s|^\"$crate/.*\" = ||p" "$committed" | awk '{ sum += $1 } END { print sum + 0 }')
        echo "$crate: $now uncovered regions, $before committed"
        [ "$now" -le "$before" ] || worse=1
    done
    [ "$worse" -eq 1 ] || return 0
    sed -n 's/^"\(.*\)" = \(.*\)$/\1 \2/p' "$committed" | sort |
        join -a 1 "$counted" - | awk '$2 > $3 + 0 { printf "  %s: %d, was %d\n", $1, $2, $3 }'
    if ! grep -qF "rustc = \"$compiler\"" "$committed"; then
        echo "note: fuzz/coverage.toml was counted by another compiler; nothing is held to it (NET_REGENERATE=1 .ci/coverage)"
        return 0
    fi
    fail "more regions are uncovered than fuzz/coverage.toml says: add a test or a corpus input for them"
}

# netsim_release / netsim_debug: where cargo leaves the two builds.
netsim() { echo "${CARGO_TARGET_DIR:-target}/$1/netsim"; }

build_netsim() {
    limited 20 cargo build --quiet --release -p net-io-sim --bin netsim
    limited 15 cargo build --quiet -p net-io-sim --bin netsim
}

# simulate SEEDS MINUTES [OPTION...]: every committed scenario over seeds 1..SEEDS; a failure prints the seed and the command
# that repeats it.
simulate() {
    local seeds=$1 minutes=$2
    shift 2
    limited "$minutes" "$(netsim release)" run scenarios --seeds "1..$seeds" --jobs "$JOBS" "$@"
}

# crowd SEEDS MINUTES: scenarios of many machines, of which one seed takes a second and more; the largest under one seed in twenty.
crowd() {
    local seeds=$1 minutes=$2
    limited "$minutes" "$(netsim release)" run scenarios-large/{join-200,many-sessions,mesh-ring-32}.toml --seeds "1..$seeds" --jobs "$JOBS"
    limited "$minutes" "$(netsim release)" run scenarios-large/join-1000.toml --seeds "1..$(((seeds + 19) / 20))" --jobs "$JOBS"
}

# thousand MINUTES: a mesh of 1,000 machines, once.
thousand() {
    limited "$1" "$(netsim release)" run scenarios-large/mesh-1000.toml --seed 1 --jobs 1
}

# short_labels SEEDS MINUTES: meshes whose labels are so short that they collide, in a build and a target directory of their own.
short_labels() {
    local target="${CARGO_TARGET_DIR:-target}/short"
    RUSTFLAGS='--cfg short_ids --cfg poly1305_backend="soft"' \
        limited 20 cargo build --quiet --profile quick -p net-io-sim --bin netsim --target-dir "$target"
    limited "$2" "$target/quick/netsim" run scenarios-short --seeds "1..$1" --jobs "$JOBS"
}

# build_planted: netsim with planted bugs, in a target directory of its own. planted: where it lies.
planted_target() { echo "${CARGO_TARGET_DIR:-target}/planted"; }
planted() { echo "$(planted_target)/quick/netsim"; }
build_planted() {
    # The environment replaces the flags of .cargo/config.toml, so they are repeated here.
    RUSTFLAGS='--cfg net_mutants --cfg poly1305_backend="soft"' \
        limited 20 cargo build --quiet --profile quick -p net-io-sim --bin netsim --target-dir "$(planted_target)"
}

# planted_bug MINUTES: one bug, chosen by the commit's hash among those the suite finds within 500 runs in half of all trials
# (docs/simulation.md), must be found.
planted_bug() {
    local minutes=$1 names count hash name
    names=$(sed -n '/^## Planted bugs/,/^## [^P]/p' docs/simulation.md |
        awk -F'|' '/^\| `/ { gsub(/[ `]/, "", $2); gsub(/ /, "", $4); if ($4 ~ /^[0-9]+$/ && $4 + 0 <= 500) print $2 }')
    count=$(wc -w <<<"$names")
    [ "$count" -gt 0 ] || fail "docs/simulation.md publishes no planted bug with a median of at most 500 runs"
    hash=$(git rev-parse HEAD 2>/dev/null || echo 0)
    name=$(sed -n "$((0x${hash:0:8} % count + 1))p" <<<"$names")
    echo "planted bug of this commit: $name (of $count)"
    build_planted
    limited "$minutes" "$(planted)" mutants hunt "$name" --trials 1 --runs 5000 --jobs "$JOBS" --seed "$((0x${hash:0:4} + 1))" ||
        fail "the planted bug $name was not found: a checker or a scenario lost its teeth"
}

# planted_bugs MINUTES TRIALS: all of them.
planted_bugs() {
    build_planted
    limited "$1" "$(planted)" mutants hunt --trials "$2" --jobs "$JOBS" --markdown
}

# One line per run: scenario, seed, digest.
digests() {
    awk '
        function field(name,   found) {
            if (!match($0, "\"" name "\":\"?[^\",}]*")) return ""
            found = substr($0, RSTART, RLENGTH)
            sub("^\"" name "\":\"?", "", found)
            return found
        }
        /"digest":"/ { print field("scenario"), field("seed"), field("digest") }
    ' | sort
}

# same_digests SEEDS MINUTES: debug and release builds, one job and several, run twice: the same digests, and not none of them.
same_digests() {
    local seeds=$1 minutes=$2 one=$SCRATCH/digests.release other
    limited "$minutes" "$(netsim release)" run scenarios --seeds "1..$seeds" --jobs 1 --json | digests >"$one"
    [ -s "$one" ] || fail "netsim reported no digest"
    for other in "release $JOBS" "release 1" "debug $JOBS"; do
        # shellcheck disable=SC2086
        set -- $other
        limited "$minutes" "$(netsim "$1")" run scenarios --seeds "1..$seeds" --jobs "$2" --json | digests >"$SCRATCH/digests.other"
        diff -q "$one" "$SCRATCH/digests.other" >/dev/null || {
            diff "$one" "$SCRATCH/digests.other" | head -20
            fail "not deterministic: the $1 build with $2 job(s) has other digests than the release build with one"
        }
    done
    echo "$(wc -l <"$one") runs: equal digests in release and debug, with 1 and $JOBS jobs, and when run twice"
}

# audit RUNS MINUTES: the determinism audit. So many runs of small worlds, each made twice in one process.
audit() {
    local runs=$1 minutes=$2 small=() name
    for name in idle-timeout idle-keepalive simultaneous-dial suspend-long disk-trouble peer-restart partition-long corrupted-race flow-control partition-one-way; do
        small+=("scenarios/$name.toml")
    done
    limited "$minutes" "$(netsim release)" run "${small[@]}" --seeds "1..$((runs / ${#small[@]}))" --jobs "$JOBS" --twice
}

# real_arm SEEDS MINUTES: real processes over loopback, in real time; then some scenarios in every arm, whose applications must
# have been told the same. The debug builds that the tests left are used; the arm `shell` joins where it was built.
real_arm() {
    local seeds=$1 minutes=$2 arms=des,real debug
    debug=$(dirname "$(netsim debug)")
    limited 15 cargo build --quiet -p net-chaos -p net-cli -p net-io-sim
    limited "$minutes" "$debug/net-chaos" run scenarios/real --seeds "1..$seeds"
    [ ! -x "${NETSIM_SHELL:-}" ] || arms=des,shell,real
    limited "$minutes" "$debug/netsim" compare scenarios/real/{loss-and-dup,partition,garbage}.toml --arms "$arms" --seeds "1..$(((seeds + 1) / 2))"
}

# shell_arm SEEDS MINUTES: the real driver under turmoil-net and madsim, over every scenario that arm can do entirely, each seed
# twice. One build holds both runtimes and the planted bugs; it lies outside the workspace and its target directory.
SHELL_FLAGS='--cfg madsim --cfg net_mutants --cfg poly1305_backend="soft"'
SHELL_TARGET="${CARGO_TARGET_DIR:+$CARGO_TARGET_DIR/shell}"
SHELL_TARGET="${SHELL_TARGET:-io-sim/shell/target}"

shell_cargo() {
    RUSTFLAGS="$SHELL_FLAGS" limited 20 cargo "$1" --quiet --manifest-path io-sim/shell/Cargo.toml --target-dir "$SHELL_TARGET" "${@:2}"
}

shell_arm() {
    local seeds=$1 minutes=$2 runtime
    cargo fmt --manifest-path io-sim/shell/Cargo.toml --check
    shell_cargo test
    export NETSIM_SHELL="$SHELL_TARGET/debug/netsim-shell"
    export -f limited
    printf '%s\n' turmoil madsim | xargs -P "$JOBS" -I{} bash -c '
        limited "$1" "$NETSIM_SHELL" run scenarios --able --seeds "1..$2" --runtime "$3" >"$4/shell.$3" || { tail -n 40 "$4/shell.$3" >&2; exit 1; }
    ' _ "$minutes" "$seeds" {} "$SCRATCH"
    for runtime in turmoil madsim; do echo "$runtime: $(tail -n 1 "$SCRATCH/shell.$runtime")"; done
}

# shell_planted SEEDS MINUTES: what is planted in the driver is found by the arm that has a driver.
shell_planted() {
    local seeds=$1 minutes=$2 name code
    for name in driver-deaf-after-error driver-recv-yields driver-timer-asked-once driver-unblocked-unsent; do
        code=0
        limited "$minutes" "$NETSIM_SHELL" run scenarios --able --once --fail-fast --seeds "1..$seeds" --mutant "$name" >"$SCRATCH/planted" || code=$?
        [ "$code" -eq 1 ] || fail "the planted bug $name was not found in $(tail -n 1 "$SCRATCH/planted")"
        echo "$name: $(tail -n 1 "$SCRATCH/planted")"
    done
}
