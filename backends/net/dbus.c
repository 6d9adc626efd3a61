/* SPDX-License-Identifier: MIT */
/*
 * dbus.c - libpcap without D-Bus.
 *
 * libpcap can capture from D-Bus, through libraries that do not exist in
 * static form and that nobody needs for a capture file.  Its two hooks for
 * that (pcap-int.h) are these.
 */
#include <stddef.h>

#include <pcap/pcap.h>

struct pcap_if_list;
pcap_t *dbus_create(const char *device, char *error, int *is_ours);
int dbus_findalldevs(struct pcap_if_list *list, char *error);

pcap_t *dbus_create(const char *device, char *error, int *is_ours)
{
    (void)device, (void)error;
    *is_ours = 0;
    return NULL;
}

int dbus_findalldevs(struct pcap_if_list *list, char *error)
{
    (void)list, (void)error;
    return 0;
}
