#!/usr/bin/env bash
# The agent's tests under gVisor, each file of them in a sandbox of its own that has no network and writes to memory
# alone. Those of files that touch the kernel; not those of what Python shows, nor those that would fill memory, which
# `--ignore-cgroups` does not bound here.
# shellcheck source=hack/lib.sh
source "$(dirname "$0")/lib.sh"

FILES=${FILES:-"append archives bash cells changes commands compiled connect contexts edit files find forks idle interactive isolation javascript journal jshell magics named names output r search tree uploads watch"}

# What gVisor does in another way, and docs say so.
OTHERWISE=(
  # It has no bound on arguments but memory.
  a_command_that_cannot_start_is_an_error_and_no_run
  # It has no files without a name, so that one is left behind by an agent that is killed.
  a_write_that_breaks_off_leaves_nothing_and_the_old_file_whole
  an_agent_killed_in_the_middle_of_a_write_leaves_the_old_file_and_nothing_else
  an_agent_killed_with_a_broken_upload_leaves_the_old_file_and_nothing_else
  # Its /sys has no files that root may not read.
  what_may_not_be_read_is_an_error_and_no_shorter_archive
  # It holds all events of a watch that nobody takes.
  what_was_missed_is_said_and_what_was_made_meanwhile_is_watched
  a_directory_that_has_left_is_watched_no_more
  # Its /proc names no terminals.
  a_program_at_a_terminal_is_the_first_of_its_session
  # A job may read its terminal from the background.
  what_reads_the_terminal_from_the_background_stops_nobody_else
  # The command is at its end too late there, now and then: then R is ended, and that is said.
  an_interrupt_ends_the_command_that_r_waits_for_and_then_the_cell
  # What it says of memory is the whole sandbox's.
  an_agent_at_rest_holds_little_memory_after_much_output
  # Its /proc does not tell what of a process's memory is its own.
  a_flood_of_names_takes_no_memory_and_holds_up_no_run
  # They look at an agent's processes from outside, which nobody can whose agents are PID 1.
  what_the_origin_starts_after_a_copy_is_its_own_again
  where_what_is_copied_has_died_another_takes_its_place
)

if [[ $CLUSTER != embedded ]]; then
  say "    only with CLUSTER=embedded: the gVisor of a cluster is not on this machine"
  exit
fi
runsc=$CACHE/cluster/bin/runsc
skip=()
for name in "${OTHERWISE[@]}"; do skip+=(--skip "$name"); done

cd "$TOP"
built=$(cargo test --locked -p agent --tests --no-run 2>&1) || die "$built"
list=$(sed -n 's/^ *Executable tests\/\(.*\)\.rs (\(.*\))$/\1 \2/p' <<<"$built")
for file in $FILES; do
  program=$(sed -n "s/^$file //p" <<<"$list")
  [[ -n $program ]] || die "there is no agent/tests/$file.rs"
  vars=(RUST_BACKTRACE=0)
  # Copies become orphans, which here only a PID 1 gets.
  if [[ $file == forks ]]; then vars+=(AGENTS_AS_PID_1=yes); fi
  quiet "$file" timeout 300 "$runsc" --network=none --ignore-cgroups "do" --force-overlay \
    unshare -pf --mount-proc env "${vars[@]}" "$(realpath "$program")" "${skip[@]}"
done
