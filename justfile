# One recipe for each step of .ci/run; `just check` runs them all.

default:
    @just --list

# Everything that a change must pass
check: format clippy docs test smoke

format:
    cargo fmt --check

clippy:
    cargo clippy --all-targets --locked -- -D warnings

docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked

# The same as `cargo nextest run`, which is faster
test:
    cargo test --locked

smoke:
    cargo build --release --locked
    .ci/smoke target/release/modtool

# Pictures a second of `scan` on both engines, beside what the machine could do (25 minutes)
bench:
    cargo bench --bench end_to_end

# The dashboard and the search with a million items, beside what is promised (3 minutes)
bench-review:
    cargo bench --bench review

# `search --dir` over a folder with a million pictures, beside what is promised (5 minutes)
bench-folder:
    cargo bench --bench folder

# `policy diff` and `backtest` over a million stored items, beside the reading alone (4 minutes)
bench-history:
    cargo bench --bench history

# What one uploader can cost another: three attacks, beside what is promised (10 minutes)
bench-fairness:
    cargo bench --bench fairness

# Crashes, bombs, bursts, attacks in long runs (hours): what docs/reliability.md tells; `just torture 50` kills less often
torture kills="":
    MODTOOL_LONG=1 MODTOOL_KILLS={{kills}} cargo test --locked --test it -- --nocapture --test-threads 2 crash:: moves:: bombs:: sandbox:: backup:: burst lost

# Eight hours at four fifths of what this machine can do: memory, descriptors, journal
soak seconds="28800":
    MODTOOL_LONG=1 MODTOOL_SOAK_SECONDS={{seconds}} cargo test --locked --test it -- --nocapture soak::

# Thousands of odd pictures beside what Pillow and, where they are installed, Chromium, djpeg, dwebp and gif2rgb show of them (10 minutes)
viewers count="20000" seed="1":
    .ci/viewers
    MODTOOL_VIEWERS={{count}} MODTOOL_VIEWERS_SEED={{seed}} MODTOOL_VIEWERS_PROGRAMS=1 \
        cargo test --locked --test it -- --nocapture viewers::

# Any bytes at all, an hour's worth of cases for each place where they come in
fuzz cases="2000000":
    PROPTEST_CASES={{cases}} cargo test --locked --test it -- fuzz::
    PROPTEST_CASES={{cases}} cargo test --locked --lib -- any_bytes mutated nothing_unprintable

# docs/walkthrough.gif and docs/review.png anew (needs Python with pyte and pillow)
walkthrough:
    cargo build --release --locked
    python3 docs/walkthrough.py target/release/modtool

# Advisories, licences, sources and duplicate versions (needs cargo-deny)
deny:
    cargo deny check
