/* SPDX-License-Identifier: MIT */
/* bulkhead-libvirt: guests of libvirt on driver domains. */
#include "bridge.h"

int main(int argc, char **argv)
{
    return bridge_run(argc, argv);
}
