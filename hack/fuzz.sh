#!/usr/bin/env bash
# Drives the fuzz targets with libFuzzer, one after the other, FUZZ_SECONDS (600) each; TARGETS takes some of them.
# It begins with what is in fuzz/corpus and keeps what it learns in target/fuzz; an input that is a fault is put into
# fuzz/artifacts, and belongs into fuzz/corpus with the fix. SANITIZER=address looks for faults of memory, too: none of
# our code is unsafe, and it makes everything slower.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

VERSION=0.13.2
export PATH=$CACHE/cargo/bin:$PATH
# libFuzzer's instrumentation is only known to nightly compilers, and to those that are told to be one.
export RUSTC_BOOTSTRAP=1

cd "$TOP"
[[ $(cargo fuzz --version 2>/dev/null) == "cargo-fuzz $VERSION" ]] ||
  quiet "cargo-fuzz $VERSION" cargo install --locked --root "$CACHE/cargo" "cargo-fuzz@$VERSION"
have c++ || packages g++
for target in ${TARGETS:-$(basename -s .rs fuzz/fuzz_targets/*.rs)}; do
  learnt=target/fuzz/$target
  mkdir -p "$learnt"
  took "$target" cargo fuzz run --sanitizer "${SANITIZER:-none}" "$target" "$learnt" "fuzz/corpus/$target" \
    -- -max_total_time="${FUZZ_SECONDS:-600}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
done
