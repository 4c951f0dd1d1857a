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

# Pictures a second of `scan` on both engines, beside what the machine could do (10 minutes)
bench:
    cargo bench --bench end_to_end

# The dashboard and the search with a million items, beside what is promised (3 minutes)
bench-review:
    cargo bench --bench review

# Advisories, licences, sources and duplicate versions (needs cargo-deny)
deny:
    cargo deny check
