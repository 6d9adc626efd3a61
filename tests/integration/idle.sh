#!/bin/bash
# SPDX-License-Identifier: MIT
# Nobody works: no process spins, and all are small.  Figures are printed.
. "$(dirname "$0")/lib.bash"
. "$(dirname "$0")/idle.bash"
stack_start
driver disk0
image a.img 64M
image b.img 64M
guest g1 disk0 "$RUN/a.img"
guest g2 disk0 "$RUN/b.img"
nbdinfo --size "$(uri g1)" >/dev/null
nbdinfo --size "$(uri g2)" >/dev/null

# daemon, core, store, driver domain, two doors
measure_idle 6
