/* SPDX-License-Identifier: MIT */
/* Writes, flushes and reads back the first 4 KiB of a native guest's disk:
 *   cc blkfront-example.c $(pkg-config --cflags --libs bulkhead-blkfront)
 *   ./a.out /run/bulkhead/guests/NAME/attach.sock vda        (DESTROYS DATA) */
#include <stdio.h>
#include <string.h>
#include <bulkhead/blkfront.h>

static int one(struct blkfront *disk, struct blkfront_io io)
{
    struct blkfront_result done;
    int n = blkfront_submit(disk, 0, &io, 1);
    while (n == 1 && blkfront_reap(disk, 0, &done, 1) == 0)
        blkfront_wait(disk, 0, -1);
    return n == 1 ? done.error : n;
}

int main(int argc, char **argv)
{
    char why[256];
    struct blkfront *disk;
    struct blkfront_options opt = { .attach = argc > 1 ? argv[1] : NULL,
                                    .device = argc > 2 ? argv[2] : NULL };
    if (blkfront_open(&disk, &opt, why, sizeof(why)))
        return fprintf(stderr, "%s\n", why), 1;
    printf("%llu bytes\n", (unsigned long long)blkfront_info(disk)->bytes);
    char *buf = blkfront_alloc(disk, 0, 4096); /* memory that the driver domain sees */
    snprintf(buf, 4096, "hello from behind the bulkhead");
    int err = one(disk, (struct blkfront_io){ .op = BLKFRONT_WRITE, .buf = buf, .bytes = 4096 });
    err = err ? err : one(disk, (struct blkfront_io){ .op = BLKFRONT_FLUSH });
    memset(buf, 0, 4096);
    err = err ? err : one(disk, (struct blkfront_io){ .op = BLKFRONT_READ, .buf = buf, .bytes = 4096 });
    printf("%s\n", err ? strerror(-err) : buf);
    blkfront_close(disk);
    return err != 0;
}
