/* SPDX-License-Identifier: MIT */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../tests/bench/bench.h"
#include "convert.h"

#define XML_MAX (1u << 20)

static const char usage[] =
    "usage: bulkhead [--run-dir DIR] [--json] COMMAND\n"
    "  define FILE.xml   describe a driver domain or a guest (libvirt domain XML)\n"
    "  undefine NAME     forget it\n"
    "  start NAME        start it, and wait until it serves\n"
    "  stop NAME         let it finish its work and end\n"
    "  restart NAME      anew, from the program that is installed now; guests of a driver domain\n"
    "                    keep running\n"
    "  kill NAME         end it at once, as a crash would; --at POINT[:N]: at a crash point (test builds)\n"
    "  attach GUEST FILE.xml      plug a disk or a NIC on a driver domain into a guest of libvirt\n"
    "  detach GUEST DEV|FILE.xml  unplug it; both: --uri URI of libvirt, --timeout SECONDS\n"
    "  list              all domains\n"
    "  info NAME         what it is, holds and may do\n"
    "  log NAME          what it wrote; NAME@spare, @core, @store, @netdev, @bulkheadd too\n"
    "  events            what happens, one JSON object a line, until interrupted\n"
    "  metrics           figures, as OpenMetrics text\n"
    "  convert FILE.xml  an ordinary libvirt guest, as one on driver domains: the new XML, and on stderr\n"
    "                    what changed or stays; --disk-driver NAME (disk0), --net-driver NAME (net0)\n"
    "  bench blk|net     measure; bulkhead bench blk --help\n"
    "  version\n"
    "--run-dir: where bulkheadd runs (default: $BULKHEAD_RUN_DIR, else " CLI_DEFAULT_RUN_DIR ")\n";

struct options {
    const char *run_dir;
    bool json;
    const char *arg; /* of the command; NULL: none */
    const char *at;  /* kill --at                  */
    const char *disk_driver, *net_driver; /* convert */
};

struct command {
    const char *name;
    const char *arg; /* what it is called in the usage; NULL: none */
    int (*run)(const struct command *cmd, const struct options *opt);
};

__attribute__((format(printf, 1, 2))) static int misuse(const char *fmt, ...)
{
    va_list ap;

    fputs("bulkhead: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs("\nsee: bulkhead --help\n", stderr);
    return CLI_MISUSE;
}

static void show_progress(const char *text)
{
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s%s", text, *text ? " ..." : "");
}

/* Sends one request; *reply is the caller's when 0 is returned.  What went
 * wrong is said. */
static int call(struct connection *c, json_t *request, json_t **reply)
{
    json_t *line = NULL;
    const char *text;
    int status;

    if (connection_send(c, request)) {
        fputs("bulkhead: bulkheadd hung up\n", stderr);
        return CLI_FAILURE;
    }
    while ((line = connection_next(c)) && (text = json_string_value(json_object_get(line, "progress")))) {
        show_progress(text);
        json_decref(line);
    }
    show_progress("");
    if (json_is_true(json_object_get(line, "ok"))) {
        *reply = line;
        return 0;
    }
    text = json_string_value(json_object_get(line, "error"));
    fprintf(stderr, "bulkhead: %s\n", text ? text : "bulkheadd ended before it answered");
    status = (int)json_integer_value(json_object_get(line, "exit"));
    json_decref(line);
    return status == CLI_MISUSE ? CLI_MISUSE : CLI_FAILURE;
}

static int ask(const struct options *opt, json_t *request, json_t **reply)
{
    struct connection c;
    int rc = connection_open(&c, opt->run_dir, false);

    if (rc) {
        json_decref(request);
        return rc;
    }
    rc = call(&c, request, reply);
    connection_close(&c);
    return rc;
}

/* The reply without what only the wire needs. */
static void finish_json(json_t *reply)
{
    json_object_del(reply, "ok");
    show_json(reply, stdout);
}

/* ----------------------------------------------------------------- commands */

/* NULL: said why not. */
static char *read_file(const char *path, size_t *bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *buf = malloc(XML_MAX + 1);
    ssize_t n = -1;

    *bytes = 0;
    if (fd >= 0 && buf)
        while (*bytes <= XML_MAX && (n = read(fd, buf + *bytes, XML_MAX + 1 - *bytes)) > 0)
            *bytes += (size_t)n;
    if (fd < 0 || !buf || n < 0)
        fprintf(stderr, "bulkhead: cannot read %s: %s\n", path, strerror(errno));
    else if (*bytes > XML_MAX)
        fprintf(stderr, "bulkhead: %s is longer than %u bytes\n", path, XML_MAX);
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && buf && n >= 0 && *bytes <= XML_MAX)
        return buf;
    free(buf);
    return NULL;
}

static int run_define(const struct command *cmd, const struct options *opt)
{
    size_t bytes, i;
    char *xml = read_file(opt->arg, &bytes);
    json_t *text, *file, *reply, *note;
    int rc;

    if (!xml)
        return CLI_FAILURE;
    text = json_stringn(xml, bytes);
    file = json_string(opt->arg);
    free(xml);
    if (!text || !file) {
        fprintf(stderr, "bulkhead: %s:1: the document or its name is not UTF-8 text\n", opt->arg);
        json_decref(text);
        json_decref(file);
        return CLI_FAILURE;
    }
    rc = ask(opt, json_pack("{s:s,s:o,s:o}", "cmd", cmd->name, "file", file, "xml", text), &reply);
    if (rc)
        return rc;
    json_array_foreach(json_object_get(reply, "notes"), i, note)
        fprintf(stderr, "%s\n", json_string_value(note));
    if (opt->json)
        finish_json(reply);
    else
        printf("defined %s %s (%s)\n", json_string_value(json_object_get(reply, "kind")),
               json_string_value(json_object_get(reply, "name")),
               json_string_value(json_object_get(reply, "class")));
    json_decref(reply);
    return 0;
}

/* undefine, start, stop, restart, kill. */
static int run_on_name(const struct command *cmd, const struct options *opt)
{
    json_t *reply;
    json_t *request = json_pack("{s:s,s:s}", "cmd", cmd->name, "name", opt->arg);
    const char *state;
    int rc;

    if (opt->at)
        json_object_set_new(request, "at", json_string(opt->at));
    rc = ask(opt, request, &reply);
    if (rc)
        return rc;
    state = json_string_value(json_object_get(reply, "state"));
    if (opt->json)
        finish_json(reply);
    else if (opt->at)
        printf("%s dies at %s\n", opt->arg, opt->at);
    else if (!strcmp(cmd->name, "kill"))
        printf("killed %s\n", opt->arg);
    else if (state)
        printf("%s is %s\n", opt->arg, strcmp(state, "defined") ? state : "stopped");
    else
        printf("%s: %s done\n", opt->arg, cmd->name);
    json_decref(reply);
    return 0;
}

static int run_list(const struct command *cmd, const struct options *opt)
{
    json_t *reply;
    int rc = ask(opt, json_pack("{s:s}", "cmd", cmd->name), &reply);

    if (rc)
        return rc;
    (opt->json ? show_json : show_list)(json_object_get(reply, "domains"), stdout);
    json_decref(reply);
    return 0;
}

static int run_info(const struct command *cmd, const struct options *opt)
{
    json_t *reply;
    int rc = ask(opt, json_pack("{s:s,s:s}", "cmd", cmd->name, "name", opt->arg), &reply);

    if (rc)
        return rc;
    process_describe(json_object_get(reply, "info"));
    (opt->json ? show_json : show_info)(json_object_get(reply, "info"), stdout);
    json_decref(reply);
    return 0;
}

/* log, metrics: text as it is. */
static int run_text(const struct command *cmd, const struct options *opt)
{
    json_t *request = json_pack("{s:s}", "cmd", cmd->name), *reply, *text;
    int rc;

    if (opt->arg)
        json_object_set_new(request, "name", json_string(opt->arg));
    rc = ask(opt, request, &reply);
    if (rc)
        return rc;
    text = json_object_get(reply, "text");
    if (opt->json)
        finish_json(reply);
    else if (fwrite(json_string_value(text), 1, json_string_length(text), stdout) != json_string_length(text))
        rc = CLI_FAILURE;
    json_decref(reply);
    return rc;
}

static int run_events(const struct command *cmd, const struct options *opt)
{
    struct connection c;
    json_t *line;
    int rc = connection_open(&c, opt->run_dir, false);

    if (rc)
        return rc;
    rc = call(&c, json_pack("{s:s}", "cmd", cmd->name), &line);
    if (!rc) {
        json_decref(line);
        while ((line = connection_next(&c))) {
            json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(13));
            json_decref(line);
            if (putchar('\n') == EOF || fflush(stdout))
                break;
        }
        if (!line) {
            fputs("bulkhead: bulkheadd ended\n", stderr);
            rc = CLI_FAILURE;
        }
    }
    connection_close(&c);
    return rc;
}

/* Needs no daemon; tells its version where there is one. */
static int run_version(const struct command *cmd, const struct options *opt)
{
    struct connection c;
    json_t *out = json_pack("{s:s}", "version", BULKHEAD_VERSION), *reply;

    if (!connection_open(&c, opt->run_dir, true)) {
        if (!connection_send(&c, json_pack("{s:s}", "cmd", cmd->name)) && (reply = connection_next(&c))) {
            json_object_set(out, "bulkheadd", json_object_get(reply, "version"));
            json_decref(reply);
        }
        connection_close(&c);
    }
    if (opt->json) {
        show_json(out, stdout);
    } else {
        printf("bulkhead %s\n", BULKHEAD_VERSION);
        if (json_object_get(out, "bulkheadd"))
            printf("bulkheadd %s\n", json_string_value(json_object_get(out, "bulkheadd")));
    }
    json_decref(out);
    return 0;
}

/* Needs no daemon. */
static int run_convert(const struct command *cmd, const struct options *opt)
{
    static struct convert_notes notes;
    const struct convert_options how = {opt->arg, opt->run_dir, opt->disk_driver, opt->net_driver};
    size_t bytes;
    char *xml = read_file(opt->arg, &bytes), *out = NULL;
    json_t *list;
    int rc;

    (void)cmd;
    if (!xml)
        return CLI_FAILURE;
    rc = convert_domain(xml, bytes, &how, &out, &notes);
    free(xml);
    if (rc) {
        fprintf(stderr, "bulkhead: %s\n", notes.error);
        return CLI_FAILURE;
    }
    if (opt->json) {
        list = json_array();
        for (unsigned i = 0; i < notes.n; i++)
            json_array_append_new(list, json_string(notes.text[i]));
        list = json_pack("{s:i,s:i,s:i,s:o,s:s}", "converted", (int)notes.converted, "already",
                         (int)notes.already, "left", (int)notes.left, "notes", list, "xml", out);
        show_json(list, stdout);
        json_decref(list);
    } else {
        for (unsigned i = 0; i < notes.n; i++)
            fprintf(stderr, "%s\n", notes.text[i]);
        if (!notes.converted)
            fprintf(stderr, "bulkhead: %s is unchanged: %s\n", opt->arg,
                    notes.already ? "its devices are on driver domains already"
                                  : "nothing in it can be converted");
        fputs(out, stdout);
    }
    free(out);
    return fflush(stdout) ? CLI_FAILURE : 0;
}

static const struct command commands[] = {
    {"define", "FILE.xml", run_define}, {"undefine", "NAME", run_on_name}, {"start", "NAME", run_on_name},
    {"stop", "NAME", run_on_name},      {"restart", "NAME", run_on_name},  {"kill", "NAME", run_on_name},
    {"list", NULL, run_list},           {"info", "NAME", run_info},        {"log", "NAME", run_text},
    {"events", NULL, run_events},       {"metrics", NULL, run_text},       {"version", NULL, run_version},
    {"convert", "FILE.xml", run_convert},
};

/* ------------------------------------------------------------- command line */

/* Takes what is meant for every command out of argv, wherever it stands.
 * Returns how many are left, or -1 after saying what is wrong. */
static int take_common(int argc, char **argv, struct options *opt)
{
    int n = 0;

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json")) {
            opt->json = true;
        } else if (!strncmp(argv[i], "--run-dir=", 10)) {
            opt->run_dir = argv[i] + 10;
        } else if (!strcmp(argv[i], "--run-dir")) {
            if (++i == argc) {
                misuse("%s needs a directory", "--run-dir");
                return -1;
            }
            opt->run_dir = argv[i];
        } else {
            argv[n++] = argv[i];
        }
    }
    argv[n] = NULL;
    return n;
}

/* An option of one command, before or after its argument; how many are left, or -1. */
static int take_own(int n, char **args, const char *name, const char *what, const char **out)
{
    int left = 1;

    for (int i = 1; i < n; i++) {
        if (strcmp(args[i], name) != 0) {
            args[left++] = args[i];
        } else if (++i == n) {
            misuse("%s needs %s", name, what);
            return -1;
        } else {
            *out = args[i];
        }
    }
    return left;
}

static int dispatch(int n, char **args, struct options *opt)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        const struct command *cmd = &commands[i];
        int wanted = cmd->arg ? 2 : 1;

        if (strcmp(cmd->name, args[0]) != 0)
            continue;
        if (!strcmp(cmd->name, "kill"))
            n = take_own(n, args, "--at", "a crash point", &opt->at);
        if (!strcmp(cmd->name, "convert"))
            n = take_own(n, args, "--disk-driver", "a driver domain", &opt->disk_driver);
        if (!strcmp(cmd->name, "convert") && n >= 0)
            n = take_own(n, args, "--net-driver", "a driver domain", &opt->net_driver);
        if (n < 0)
            return CLI_MISUSE;
        if (n < wanted) {
            fprintf(stderr, "bulkhead: usage: bulkhead %s %s\n", cmd->name, cmd->arg);
            return CLI_MISUSE;
        }
        if (n > wanted)
            return misuse("'%s' is one argument too many", args[wanted]);
        opt->arg = cmd->arg ? args[1] : NULL;
        if (opt->arg && *opt->arg == '-')
            return misuse("'%s' is no option of this command", opt->arg);
        return cmd->run(cmd, opt);
    }
    return misuse("'%s' is no %s", args[0], *args[0] == '-' ? "option" : "command");
}

int cli_run(int argc, char **argv)
{
    const char *env = getenv("BULKHEAD_RUN_DIR");
    struct options opt = {.run_dir = env && *env ? env : CLI_DEFAULT_RUN_DIR};
    int n = take_common(argc, argv, &opt);

    if (n < 0)
        return CLI_MISUSE;
    if (n == 0) {
        fputs(usage, stderr);
        return CLI_MISUSE;
    }
    if (!strcmp(argv[0], "bench"))
        return bench_main(n - 1, argv + 1, opt.run_dir, opt.json);
    for (int i = 0; i < n; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            fputs(usage, stdout);
            return 0;
        }
    }
    if (!strcmp(argv[0], "attach") || !strcmp(argv[0], "detach"))
        return plug_run(opt.run_dir, opt.json, n, argv);
    if (!strcmp(argv[0], "--version"))
        argv[0] = (char *)"version";
    return dispatch(n, argv, &opt);
}
