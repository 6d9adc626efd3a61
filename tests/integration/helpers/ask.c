/* SPDX-License-Identifier: MIT */
/*
 * ask RUN-DIR COMMAND [XML-FILE | NAME] - one request to bulkheadd, and its answer on
 * stdout.  Status 0: it said ok; 1: it refused; 2: it was not reached, or hung up.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char *read_file(const char *path, size_t *bytes)
{
    FILE *f = fopen(path, "re");
    char *text = malloc(1 << 20);

    if (!f || !text)
        exit(2);
    *bytes = fread(text, 1, 1 << 20, f);
    fclose(f);
    return text;
}

static json_t *request(const char *cmd, const char *of)
{
    json_t *out = json_pack("{s:s}", "cmd", cmd);
    size_t bytes;

    if (strcmp(cmd, "open") == 0 || strcmp(cmd, "define") == 0) {
        char *xml = read_file(of, &bytes);

        json_object_set_new(out, "file", json_string(of));
        json_object_set_new(out, "xml", json_stringn(xml, bytes));
        free(xml);
    } else {
        json_object_set_new(out, "name", json_string(of));
    }
    return out;
}

/* Progress is left out. */
static int take_answer(FILE *from)
{
    char *line = NULL;
    size_t room = 0;

    while (getline(&line, &room, from) > 0) {
        json_t *answer = json_loads(line, 0, NULL);
        const json_t *ok = json_object_get(answer, "ok");

        if (!ok)
            continue;
        fputs(line, stdout);
        return json_is_true(ok) ? 0 : 1;
    }
    return 2;
}

int main(int argc, char **argv)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char *text;
    FILE *both;

    if (argc < 3)
        return 2;
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/bulkheadd.sock", argv[1]);
    text = json_dumps(request(argv[2], argc > 3 ? argv[3] : ""), JSON_COMPACT);
    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) || !text)
        return 2;
    both = fdopen(fd, "r+");
    if (!both || dprintf(fd, "%s\n", text) < 0)
        return 2;
    return take_answer(both);
}
