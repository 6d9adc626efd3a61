/* SPDX-License-Identifier: MIT */
/* A guest in one file: answers ARP and ping for one IPv4 address on a native guest's NIC.
 *   cc netfront-example.c $(pkg-config --cflags --libs bulkhead-netfront)
 *   ./a.out /run/bulkhead/guests/NAME/attach.sock eth0 10.0.0.5 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <bulkhead/netfront.h>

#define BURST 32

/* Turns the frame in place into the answer to it; 0: it wants none from us. */
static int answer(uint8_t *f, size_t bytes, const uint8_t mac[6], const uint8_t ip[4])
{
    if (bytes >= 42 && !memcmp(f + 12, "\x08\x06", 2) && f[21] == 1 && !memcmp(f + 38, ip, 4)) {
        memcpy(f, f + 6, 6);                      /* ARP request for our address */
        memcpy(f + 6, mac, 6);
        f[21] = 2;
        memmove(f + 32, f + 22, 10);
        memcpy(f + 22, mac, 6);
        memcpy(f + 28, ip, 4);
        return 1;
    }
    size_t icmp = 14 + (size_t)(f[14] & 15) * 4;
    if (bytes < 42 || icmp < 34 || icmp > bytes - 8 || memcmp(f + 12, "\x08\0", 2) != 0 || f[23] != 1
        || memcmp(f + 30, ip, 4) != 0 || f[icmp] != 8)
        return 0;
    memcpy(f, f + 6, 6);                          /* ping */
    memcpy(f + 6, mac, 6);
    memcpy(f + 30, f + 26, 4);
    memcpy(f + 26, ip, 4);
    f[icmp] = 0;
    unsigned sum = (f[icmp + 2] << 8 | f[icmp + 3]) + 0x800; /* RFC 1624: only the type changed */
    sum = (sum & 0xffff) + (sum >> 16);
    f[icmp + 2] = (uint8_t)(sum >> 8);
    f[icmp + 3] = (uint8_t)sum;
    return 1;
}

int main(int argc, char **argv)
{
    char why[256];
    uint8_t ip[4];
    struct netfront *nic;
    struct netfront_options opt = { .attach = argc > 1 ? argv[1] : NULL, .device = argc > 2 ? argv[2] : NULL,
                                    .no_offload = 1 }; /* frames come complete */
    if (argc < 4 || inet_pton(AF_INET, argv[3], ip) != 1)
        return fprintf(stderr, "usage: %s ATTACH-SOCKET DEVICE IPV4-ADDRESS\n", argv[0]), 1;
    if (netfront_open(&nic, &opt, why, sizeof(why)))
        return fprintf(stderr, "%s\n", why), 1;
    const struct netfront_info *info = netfront_info(nic);
    printf("%02x:%02x:%02x:%02x:%02x:%02x answers for %s\n", info->mac[0], info->mac[1], info->mac[2],
           info->mac[3], info->mac[4], info->mac[5], argv[3]);
    fflush(stdout);
    for (;;) {
        struct netfront_packet in[BURST], out[BURST];
        void *bufs[BURST];
        int n = netfront_receive(nic, 0, in, BURST), nout = 0;
        int nbufs = n > 0 ? netfront_get(nic, 0, bufs, (unsigned)n) : 0;
        for (int i = 0; i < n; i++) {
            int alone = !(in[i].flags & NETFRONT_MORE) && (i == 0 || !(in[i - 1].flags & NETFRONT_MORE));
            if (!alone || nout == nbufs)
                continue;                         /* too long for this example; or no room to answer */
            memcpy(bufs[nout], in[i].data, in[i].bytes); /* the driver domain can change what is in in[] */
            out[nout] = (struct netfront_packet){ .data = bufs[nout], .bytes = in[i].bytes };
            nout += answer(bufs[nout], in[i].bytes, info->mac, ip);
        }
        netfront_release(nic, 0, in, n > 0 ? (unsigned)n : 0);
        int sent = netfront_send(nic, 0, out, (unsigned)nout);
        for (int i = sent > 0 ? sent : 0; i < nbufs; i++)
            netfront_put(nic, 0, &bufs[i], 1);
        if (n < 0 || (n == 0 && netfront_wait(nic, 0, -1) < 0))
            break;                                /* the hypervisor is gone */
    }
    netfront_close(nic);
    return 0;
}
