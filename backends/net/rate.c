/* SPDX-License-Identifier: MIT */
/* rate.c - token buckets. */
#include "rate.h"

#define SECOND 1000000000ull

static void bucket_init(struct rate_bucket *b, uint64_t rate, uint64_t depth, uint64_t now)
{
    if (depth < RATE_DEPTH_MIN)
        depth = RATE_DEPTH_MIN;
    if (depth > RATE_DEPTH_MAX)
        depth = RATE_DEPTH_MAX;
    b->rate = rate > RATE_MAX ? 0 : rate;
    b->depth = b->credit = (int64_t)(depth * SECOND);
    b->filled = now;
}

void net_rate_init(struct rate_limit *limit, const struct net_rate *rate, uint64_t now)
{
    uint64_t average = rate->average > RATE_MAX ? 0 : rate->average;
    uint64_t peak = rate->peak > RATE_MAX ? 0 : rate->peak;
    uint64_t burst = rate->burst ? rate->burst : average * RATE_BURST_MS / 1000;

    bucket_init(&limit->average, average, burst > RATE_DEPTH_MAX ? RATE_DEPTH_MAX : burst, now);
    bucket_init(&limit->peak, average ? peak : 0, peak * RATE_PEAK_MS / 1000, now);
}

static uint64_t bucket_wait(struct rate_bucket *b, uint64_t now)
{
    if (b->rate == 0)
        return 0;
    uint64_t elapsed = now - b->filled;
    uint64_t room = (uint64_t)(b->depth - b->credit); /* depth and debt are small: no overflow */
    b->filled = now;
    if (elapsed >= room / b->rate + 1)
        b->credit = b->depth;
    else
        b->credit +=
            (int64_t)(elapsed * b->rate) < (int64_t)room ? (int64_t)(elapsed * b->rate) : (int64_t)room;
    return b->credit > 0 ? 0 : (uint64_t)-b->credit / b->rate + 1;
}

uint64_t net_rate_wait(struct rate_limit *limit, uint64_t now)
{
    uint64_t average = bucket_wait(&limit->average, now);
    uint64_t peak = bucket_wait(&limit->peak, now);
    return average > peak ? average : peak;
}

void net_rate_spend(struct rate_limit *limit, uint32_t bytes)
{
    limit->average.credit -= limit->average.rate ? (int64_t)(bytes * SECOND) : 0;
    limit->peak.credit -= limit->peak.rate ? (int64_t)(bytes * SECOND) : 0;
}
