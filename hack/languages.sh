#!/usr/bin/env bash
# The compilers and interpreters that the agent's tests run code in, where they are missing: a test of a language
# that is not there fails. (Go, Python and Rust are here before anything can be built.)
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

missing=()
have c++ || missing+=(g++)
have node || missing+=(nodejs)
have perl || missing+=(perl)
{ have javac && have java; } || missing+=(default-jdk-headless)
have R || missing+=(r-base-core)
packages "${missing[@]}"
