/* SPDX-License-Identifier: MIT */
/* stillborn - a driver domain's program that ends as soon as it is started. */
int main(void)
{
    return 3;
}
