/* SPDX-License-Identifier: MIT */
/*
 * attacks.h - what a hostile driver domain would try.  The probe runs these
 * inside a jail, the test runs the same functions outside as controls.
 *
 * Each returns 0 when it got what it wanted, else a negative errno.
 */
#ifndef BULKHEAD_TESTS_ATTACKS_H
#define BULKHEAD_TESTS_ATTACKS_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <liburing.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../../hyp-shim/local/jail.h"
#include "../../../hyp-shim/local/proto.h"

#define COMMAND_FD (DOMAIN_FIRST_FD + 1)

/* How far the probe goes into the jail before it attacks. */
enum stage {
    OUTSIDE,  /* the control                                                 */
    LAUNCHED, /* only what the core took away before exec                    */
    CONFINED, /* and jail_confine()                                          */
    SEALED,   /* and jail_seal()                                             */
};

/* What there is to attack. */
struct targets {
    int32_t victim;       /* a process                                       */
    uint64_t secret;      /* address of a byte in it                         */
    char path[128];       /* a file that anybody may read                    */
    char new_path[128];   /* a file that root could make                     */
    char unix_path[100];  /* a listening socket                              */
    char abstract[100];   /* another, its name without the leading NUL       */
    uint16_t port;        /* a listening port of 127.0.0.1, network order    */
    uint32_t granter;
    uint32_t own_ref;     /* granted to the attacker                         */
    uint32_t rdonly_ref;  /* the same, for reading                           */
    uint32_t foreign_ref; /* granted to another domain                       */
    uint32_t own_port;    /* a doorbell of the granter for the attacker       */
    uint32_t foreign_port; /* for another domain                             */
    int32_t other;        /* process of another driver domain                */
    uint32_t ifindex;     /* an interface of the machine                     */
    char interface[16];   /* its name                                        */
};

/* What the attacker got before the jail closed. */
struct arms {
    struct hyp *hyp;
    int pool_fd;          /* behind own_ref                                  */
    int rdonly_fd;        /* behind rdonly_ref                               */
    char *page;           /* private, writable                               */
    struct io_uring *ring; /* a block driver domain's                        */
    int packet, ask;      /* what the keeper gives for an uplink: NET        */
    int tap;              /* TAP                                             */
    int listener;         /* where a VMM connects: VHOST                     */
};

/* Descriptors of a net driver domain, and of guests behind TAP and vhost-user doors. */
#define PACKET_FD (COMMAND_FD + 1)
#define ASK_FD    (COMMAND_FD + 2)
#define TAP_FD    (COMMAND_FD + 1)
#define LISTEN_FD (COMMAND_FD + 1)

struct order {
    int32_t cls, stage, attack;
    struct targets targets;
};

static inline int result(long r)
{
    return r < 0 ? -errno : 0;
}

/* -------------------------------------------------------------------- paths */

static int read_a_file(const struct targets *t, struct arms *a)
{
    (void)a;
    return result(open(t->path, O_RDONLY));
}

static int make_a_file(const struct targets *t, struct arms *a)
{
    (void)a;
    int fd = open(t->new_path, O_WRONLY | O_CREAT, 0600);
    if (fd >= 0)
        unlink(t->new_path);
    return result(fd);
}

static int open_the_root(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(open("/", O_RDONLY | O_DIRECTORY));
}

/* ---------------------------------------------------------------- processes */

static int signal_a_process(const struct targets *t, struct arms *a)
{
    (void)a;
    return result(kill(t->victim, 0));
}

static int trace_a_process(const struct targets *t, struct arms *a)
{
    (void)a;
    return result(ptrace(PTRACE_SEIZE, t->victim, NULL, NULL));
}

static int read_a_process(const struct targets *t, struct arms *a)
{
    (void)a;
    char byte;
    struct iovec here = { &byte, 1 }, there = { (void *)(uintptr_t)t->secret, 1 };
    return result(process_vm_readv(t->victim, &here, 1, &there, 1, 0));
}

static int grip_a_process(const struct targets *t, struct arms *a)
{
    (void)a;
    return result(syscall(SYS_pidfd_open, t->victim, 0));
}

static int signal_another_domain(const struct targets *t, struct arms *a)
{
    (void)a;
    return result(kill(t->other, 0));
}

static int trace_another_domain(const struct targets *t, struct arms *a)
{
    (void)a;
    return result(ptrace(PTRACE_SEIZE, t->other, NULL, NULL));
}

/* ------------------------------------------------------------------ sockets */

static int dial(int family, const void *addr, socklen_t bytes)
{
    int s = socket(family, SOCK_STREAM, 0);
    return s < 0 ? -errno : result(connect(s, addr, bytes));
}

static int dial_inet(const struct targets *t, struct arms *a)
{
    (void)a;
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = t->port,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    return dial(AF_INET, &to, sizeof(to));
}

static int dial_unix_path(const struct targets *t, struct arms *a)
{
    (void)a;
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    memcpy(to.sun_path, t->unix_path, sizeof(t->unix_path));
    return dial(AF_UNIX, &to, sizeof(to));
}

static int dial_unix_abstract(const struct targets *t, struct arms *a)
{
    (void)a;
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    size_t length = strnlen(t->abstract, sizeof(t->abstract));
    memcpy(to.sun_path + 1, t->abstract, length);
    return dial(AF_UNIX, &to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length));
}

/* ------------------------------------------------------------------- grants */

static int map_ref(const struct targets *t, struct arms *a, grant_ref_t ref)
{
    struct hyp_map *map;
    void *va;
    int err = hyp_map_open(a->hyp, (domid_t)t->granter, &map);
    return err ? err : hyp_map_grants(map, &ref, 1, 0, &va);
}

static int map_foreign_pool(const struct targets *t, struct arms *a)
{
    return map_ref(t, a, t->foreign_ref);
}

static int map_rdonly_for_writing(const struct targets *t, struct arms *a)
{
    return map_ref(t, a, t->rdonly_ref);
}

static int grow_pool(const struct targets *t, struct arms *a)
{
    (void)t;
    return result(ftruncate(a->pool_fd, 1 << 24));
}

/* The same with calls that are always allowed: reads up to the end, writes. */
static int grow_pool_by_writing(const struct targets *t, struct arms *a)
{
    (void)t;
    ssize_t n;
    while ((n = read(a->pool_fd, a->page, HYP_PAGE_SIZE)) > 0)
        ;
    return n < 0 ? -errno : result(write(a->pool_fd, a->page, 1));
}

static int shrink_pool(const struct targets *t, struct arms *a)
{
    (void)t;
    return result(ftruncate(a->pool_fd, 0));
}

static int write_rdonly_by_mapping(const struct targets *t, struct arms *a)
{
    (void)t;
    void *va = mmap(NULL, HYP_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, a->rdonly_fd, 0);
    return va == MAP_FAILED ? -errno : 0;
}

static int write_rdonly_by_call(const struct targets *t, struct arms *a)
{
    (void)t;
    return result(write(a->rdonly_fd, "x", 1));
}

static int write_rdonly_by_mprotect(const struct targets *t, struct arms *a)
{
    (void)t;
    void *va = mmap(NULL, HYP_PAGE_SIZE, PROT_READ, MAP_SHARED, a->rdonly_fd, 0);
    return va == MAP_FAILED ? -errno : result(mprotect(va, HYP_PAGE_SIZE, PROT_READ | PROT_WRITE));
}

static int bind_foreign_channel(const struct targets *t, struct arms *a)
{
    struct hyp_evtchn *ch;
    return hyp_evtchn_bind(a->hyp, (domid_t)t->granter, t->foreign_port, &ch);
}

/* --------------------------------------------------------------- privileges */

static int become_root(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(syscall(SYS_setresuid, 0, 0, 0));
}

static int take_capabilities(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct all[_LINUX_CAPABILITY_U32S_3] = { { 0x1, 0x1, 0 }, { 0, 0, 0 } };
    return result(syscall(SYS_capset, &head, all));
}

static int mount_something(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    int err = result(unshare(CLONE_NEWNS)); /* outside: harms no one */
    return err ? err : result(mount("none", "/", "tmpfs", 0, NULL));
}

static int leave_the_root(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(chroot("/"));
}

static int new_net_namespace(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(unshare(CLONE_NEWNET));
}

static int new_user_namespace(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(unshare(CLONE_NEWUSER));
}

/* ----------------------------------------------------------------- new code */

static int run_a_program(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    char *argv[] = { (char *)(uintptr_t)"true", NULL };
    return result(execve("/bin/true", argv, argv + 1));
}

static int map_code(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    void *va = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return va == MAP_FAILED ? -errno : 0;
}

static int write_code(const struct targets *t, struct arms *a)
{
    (void)t;
    return result(mprotect(a->page, HYP_PAGE_SIZE, PROT_READ | PROT_EXEC));
}

static int map_pool_as_code(const struct targets *t, struct arms *a)
{
    (void)t;
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, a->pool_fd, 0) == MAP_FAILED ? -errno : 0;
}

static int start_a_process(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        syscall(SYS_exit_group, 0);
    return result(pid);
}

/* ----------------------------------------------------------------- io_uring */

/* One request on the ring that was made before the seal, and its result. */
typedef void prepare_fn(struct io_uring_sqe *, const struct targets *, struct arms *);
static int ring_do(struct arms *a, prepare_fn *prepare, const struct targets *t)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(a->ring);
    struct io_uring_cqe *cqe;
    if (!sqe)
        return -EBUSY;
    prepare(sqe, t, a);
    int err = io_uring_submit_and_wait(a->ring, 1);
    if (err < 0 || io_uring_peek_cqe(a->ring, &cqe))
        return err < 0 ? err : -EIO;
    err = cqe->res < 0 ? cqe->res : 0;
    io_uring_cqe_seen(a->ring, cqe);
    return err;
}

static void prepare_open(struct io_uring_sqe *sqe, const struct targets *t, struct arms *a)
{
    (void)a;
    io_uring_prep_openat(sqe, AT_FDCWD, t->path, O_RDONLY, 0);
}

static void prepare_socket(struct io_uring_sqe *sqe, const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = 45; /* IORING_OP_SOCKET, Linux 5.19 */
    sqe->fd = AF_UNIX;
    sqe->off = SOCK_STREAM;
}

static int ring_open(const struct targets *t, struct arms *a)
{
    return ring_do(a, prepare_open, t);
}

static int ring_socket(const struct targets *t, struct arms *a)
{
    return ring_do(a, prepare_socket, t);
}

/* It would outlive its process by the time that a ring takes to go. */
static int ring_register_file(const struct targets *t, struct arms *a)
{
    (void)t;
    int got = result(syscall(SYS_io_uring_register, a->ring->ring_fd, IORING_REGISTER_FILES, &a->pool_fd, 1));
    if (got >= 0)
        syscall(SYS_io_uring_register, a->ring->ring_fd, IORING_UNREGISTER_FILES, NULL, 0);
    return got;
}

static int ring_widen(const struct targets *t, struct arms *a)
{
    (void)t;
    struct io_uring_restriction all = { .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_OPENAT };
    return result(syscall(SYS_io_uring_register, a->ring->ring_fd, IORING_REGISTER_RESTRICTIONS, &all, 1));
}

static int ring_of_its_own(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    struct io_uring_params p = { 0 };
    return result(syscall(SYS_io_uring_setup, 4, &p));
}

/* --------------------------------------------------- interfaces and sockets */

/* Takes what a socket of that kind could see, if it can be had at all. */
static int open_a_packet_socket(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
}

static int open_a_raw_socket(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}

static int open_an_inet_socket(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(socket(AF_INET, SOCK_DGRAM, 0));
}

static int open_a_netlink_socket(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    return result(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
}

static struct ifreq about(const struct targets *t)
{
    struct ifreq ifr = { 0 };
    memcpy(ifr.ifr_name, t->interface, sizeof(ifr.ifr_name));
    return ifr;
}

static int see_an_interface(const struct targets *t, struct arms *a)
{
    (void)a;
    struct ifreq ifr = about(t);
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    return s < 0 ? -errno : result(ioctl(s, SIOCGIFINDEX, &ifr));
}

static int change_an_interface(const struct targets *t, struct arms *a)
{
    struct ifreq ifr = about(t);
    ifr.ifr_flags = IFF_UP | IFF_PROMISC;
    return result(ioctl(a->ask, SIOCSIFFLAGS, &ifr));
}

/* One request about the machine's interfaces, over netlink. */
static int see_an_interface_by_netlink(const struct targets *t, struct arms *a)
{
    (void)a;
    struct {
        struct nlmsghdr h;
        struct ifinfomsg link;
    } q = { { sizeof(q), RTM_GETLINK, NLM_F_REQUEST, 1, 0 }, { .ifi_index = (int)t->ifindex } };
    struct {
        struct nlmsghdr h;
        int error;
        char rest[8192];
    } r;
    int s = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    if (s < 0 || send(s, &q, sizeof(q), 0) < 0 || recv(s, &r, sizeof(r), 0) < (ssize_t)sizeof(r.h))
        return -errno;
    return r.h.nlmsg_type == NLMSG_ERROR ? r.error : 0;
}

/* What its uplink's socket is bound to is all that it has of the network. */
static struct sockaddr_ll elsewhere(const struct targets *t)
{
    return (struct sockaddr_ll){ .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                                 .sll_ifindex = (int)t->ifindex, .sll_halen = 6 };
}

static int bind_to_an_interface(const struct targets *t, struct arms *a)
{
    struct sockaddr_ll to = elsewhere(t);
    return result(bind(a->packet, (struct sockaddr *)&to, sizeof(to)));
}

static int send_by_an_interface(const struct targets *t, struct arms *a)
{
    struct sockaddr_ll to = elsewhere(t);
    char frame[64] = { 0 };
    struct iovec iov = { frame, sizeof(frame) };
    struct msghdr msg = { .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &iov, .msg_iovlen = 1 };
    return result(sendmsg(a->packet, &msg, MSG_NOSIGNAL));
}

static int set_an_option(const struct targets *t, struct arms *a)
{
    (void)t;
    struct packet_mreq all = { .mr_ifindex = 1, .mr_type = PACKET_MR_ALLMULTI };
    return result(setsockopt(a->packet, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all)));
}

/* By the socket that the keeper lends for questions, which is in the machine's
 * namespace when the uplink is a TAP. */
static int send_by_the_asking_socket(const struct targets *t, struct arms *a)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = t->port,
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    char byte = 'x';
    struct iovec iov = { &byte, 1 };
    struct msghdr msg = { .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &iov, .msg_iovlen = 1 };
    return result(sendmsg(a->ask, &msg, MSG_NOSIGNAL));
}

static int enter_the_namespace_of_a_socket(const struct targets *t, struct arms *a)
{
    (void)t;
    int ns = ioctl(a->ask, SIOCGSKNS);
    return ns < 0 ? -errno : result(setns(ns, CLONE_NEWNET));
}

static int load_an_xdp_program(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    const struct bpf_insn code[] = { { .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_DROP },
                                     { .code = BPF_JMP | BPF_EXIT } };
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_XDP;
    attr.insns = (uintptr_t)code;
    attr.insn_cnt = 2;
    attr.license = (uintptr_t) "MIT";
    return result(syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr)));
}

/* -------------------------------------------------------------------- TAPs */

static int make_a_tap(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    struct ifreq ifr = { .ifr_name = "stolen0", .ifr_flags = IFF_TAP | IFF_NO_PI };
    int fd = open("/dev/net/tun", O_RDWR);
    return fd < 0 ? -errno : result(ioctl(fd, TUNSETIFF, &ifr));
}

static int keep_the_tap_for_ever(const struct targets *t, struct arms *a)
{
    (void)t;
    int err = result(ioctl(a->tap, TUNSETPERSIST, 1));
    if (err == 0)
        ioctl(a->tap, TUNSETPERSIST, 0);
    return err;
}

static int change_the_taps_address(const struct targets *t, struct arms *a)
{
    (void)t;
    struct ifreq ifr = { .ifr_hwaddr = { .sa_family = ARPHRD_ETHER, .sa_data = { 2, 0, 0, 0, 0, 9 } } };
    return result(ioctl(a->tap, SIOCSIFHWADDR, &ifr));
}

static int enter_the_namespace_of_the_tap(const struct targets *t, struct arms *a)
{
    (void)t;
    int ns = ioctl(a->tap, TUNGETDEVNETNS);
    return ns < 0 ? -errno : result(setns(ns, CLONE_NEWNET));
}

/* ------------------------------------------------------------ a VMM's socket */

static int listen_elsewhere(const struct targets *t, struct arms *a)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX }; /* autobind: any abstract name */
    (void)t;
    (void)a;
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0 || bind(s, (struct sockaddr *)&name, sizeof(name.sun_family)))
        return -errno;
    return result(listen(s, 1));
}

static int connect_by_the_listener(const struct targets *t, struct arms *a)
{
    struct sockaddr_un name;
    socklen_t bytes = sizeof(name);
    (void)t;
    if (getsockname(a->listener, (struct sockaddr *)&name, &bytes))
        return -errno;
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return s < 0 ? -errno : result(connect(s, (struct sockaddr *)&name, bytes));
}

static int ask_who_is_there(const struct targets *t, struct arms *a)
{
    struct ucred who;
    socklen_t bytes = sizeof(who);
    (void)t;
    return result(getsockopt(a->listener, SOL_SOCKET, SO_PEERCRED, &who, &bytes));
}

static int be_signalled_by_a_socket(const struct targets *t, struct arms *a)
{
    (void)t;
    return result(fcntl(a->listener, F_SETOWN, getpid()));
}

static int lengthen_a_pipe(const struct targets *t, struct arms *a)
{
    int ends[2];
    (void)t;
    (void)a;
    return pipe(ends) ? -errno : result(fcntl(ends[0], F_SETPIPE_SZ, 16 * 4096));
}

static int map_a_memfd_as_code(const struct targets *t, struct arms *a)
{
    (void)t;
    (void)a;
    int fd = memfd_create("code", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, HYP_PAGE_SIZE))
        return -errno;
    void *code = mmap(NULL, HYP_PAGE_SIZE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    return code == MAP_FAILED ? -errno : 0;
}

static void *do_nothing(void *arg)
{
    return arg;
}

static int start_a_thread(const struct targets *t, struct arms *a)
{
    pthread_t thread;
    (void)t;
    (void)a;
    int err = pthread_create(&thread, NULL, do_nothing, NULL);
    return err ? -err : -pthread_join(thread, NULL);
}

/* -------------------------------------------------------------------- table */

struct attack {
    const char *what;
    int (*run)(const struct targets *, struct arms *);
    enum stage refused_from; /* and at every later stage */
    unsigned classes;        /* of attackers             */
};

#define BLK   (1u << HYP_CLASS_BLK)
#define NET   (1u << HYP_CLASS_NET)
#define TAP   (1u << HYP_CLASS_TAP)
#define VHOST (1u << HYP_CLASS_VHOST)
#define EVERY (BLK | NET | TAP | VHOST)

static const struct attack attacks[] = {
    { "read a file", read_a_file, LAUNCHED, EVERY },
    { "make a file", make_a_file, LAUNCHED, EVERY },
    { "open its own root", open_the_root, CONFINED, EVERY },
    { "signal a process", signal_a_process, LAUNCHED, EVERY },
    { "trace a process", trace_a_process, LAUNCHED, EVERY },
    { "read a process's memory", read_a_process, LAUNCHED, EVERY },
    { "get a descriptor of a process", grip_a_process, LAUNCHED, EVERY },
    { "connect by TCP", dial_inet, LAUNCHED, EVERY },
    { "connect to a socket by path", dial_unix_path, LAUNCHED, EVERY },
    { "connect to an abstract socket", dial_unix_abstract, LAUNCHED, EVERY },
    { "map a pool granted to another", map_foreign_pool, LAUNCHED, EVERY },
    { "map a read-only grant for writing", map_rdonly_for_writing, LAUNCHED, BLK | NET },
    { "grow a pool", grow_pool, LAUNCHED, EVERY },
    { "grow a pool by writing past its end", grow_pool_by_writing, LAUNCHED, EVERY },
    { "shrink a pool", shrink_pool, LAUNCHED, EVERY },
    { "write a read-only grant through a mapping", write_rdonly_by_mapping, LAUNCHED, BLK | NET },
    { "write a read-only grant with a call", write_rdonly_by_call, LAUNCHED, BLK | NET },
    { "write a read-only grant after mprotect", write_rdonly_by_mprotect, LAUNCHED, BLK | NET },
    { "become root", become_root, LAUNCHED, EVERY },
    { "take a capability", take_capabilities, LAUNCHED, EVERY },
    { "mount", mount_something, LAUNCHED, EVERY },
    { "chroot", leave_the_root, LAUNCHED, EVERY },
    { "enter a new net namespace", new_net_namespace, LAUNCHED, EVERY },
    { "enter a new user namespace", new_user_namespace, SEALED, EVERY },
    { "run a program", run_a_program, LAUNCHED, EVERY },
    { "map executable memory", map_code, SEALED, EVERY },
    { "make written memory executable", write_code, CONFINED, EVERY },
    { "map a pool executable", map_pool_as_code, SEALED, EVERY },
    { "start a process", start_a_process, SEALED, EVERY },
    { "open a file by io_uring", ring_open, LAUNCHED, BLK },
    { "make a socket by io_uring", ring_socket, LAUNCHED, BLK },
    { "register a file with io_uring", ring_register_file, LAUNCHED, BLK },
    { "widen a ring's restrictions", ring_widen, LAUNCHED, BLK },
    { "make a ring of its own", ring_of_its_own, SEALED, EVERY },
    { "signal another driver domain", signal_another_domain, LAUNCHED, EVERY },
    { "trace another driver domain", trace_another_domain, LAUNCHED, EVERY },
    { "bind a doorbell meant for another", bind_foreign_channel, LAUNCHED, EVERY },
    { "open a packet socket", open_a_packet_socket, LAUNCHED, EVERY },
    { "open a raw IP socket", open_a_raw_socket, LAUNCHED, EVERY },
    { "open an IP socket", open_an_inet_socket, SEALED, EVERY },
    { "open a netlink socket", open_a_netlink_socket, SEALED, EVERY },
    { "see an interface of the machine", see_an_interface, LAUNCHED, EVERY },
    { "see one by netlink", see_an_interface_by_netlink, LAUNCHED, EVERY },
    { "make one promiscuous", change_an_interface, LAUNCHED, NET },
    { "bind its uplink's socket to one", bind_to_an_interface, LAUNCHED, NET },
    { "send a frame by one", send_by_an_interface, LAUNCHED, NET },
    { "set an option of its uplink's socket", set_an_option, SEALED, NET },
    { "send by the socket that is for questions", send_by_the_asking_socket, LAUNCHED, NET },
    { "enter the namespace of that socket", enter_the_namespace_of_a_socket, LAUNCHED, NET },
    { "load an XDP program", load_an_xdp_program, LAUNCHED, EVERY },
    { "make a TAP device", make_a_tap, LAUNCHED, EVERY },
    { "make its TAP device outlive it", keep_the_tap_for_ever, SEALED, TAP },
    { "change its TAP device's MAC address", change_the_taps_address, SEALED, TAP },
    { "enter its guest's namespace", enter_the_namespace_of_the_tap, LAUNCHED, TAP },
    { "listen at another place", listen_elsewhere, SEALED, VHOST },
    { "connect by its socket", connect_by_the_listener, SEALED, VHOST },
    { "ask who is at the other end of its socket", ask_who_is_there, SEALED, VHOST },
    { "have its socket's news as a signal", be_signalled_by_a_socket, SEALED, VHOST },
    { "make a doorbell longer", lengthen_a_pipe, SEALED, VHOST },
    { "run code from memory that it made", map_a_memfd_as_code, SEALED, VHOST },
    { "start a thread", start_a_thread, SEALED, VHOST },
};
#define ATTACKS (sizeof(attacks) / sizeof(attacks[0]))

#endif
