/* Counts the system calls that change or read files below one folder, and at a chosen call kills
 * the process or makes the call fail. Loaded with LD_PRELOAD; see shim.py.
 *
 * FAULTS_BELOW   the folder; calls on files elsewhere, such as Python's modules, do not count
 * FAULTS_EXCEPT  files and folders in it that do not count either, separated by colons
 * FAULTS_KINDS   the kinds of calls that count, such as "write,sync,name,open"
 * FAULTS_AT      the number of the call, from 1; 0 only counts
 * FAULTS_ACT     "kill", "tear" (write half of the bytes, then die), or a number of errno.h
 * FAULTS_LASTING "1": all later calls of these kinds also fail, as on a full disk
 * FAULTS_LOG     a log with a line per counted call: its number, kind, name and path
 * FAULTS_OWNER   the process whose calls count; set by the shim itself
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[PATH_MAX], except[4][PATH_MAX], kinds[256];
static long at;
static int fault; /* of errno.h; 0: kill */
static int tear, lasting, log_fd = -1;
static pid_t owner;
static atomic_long calls;

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("FAULTS_BELOW"), *of = getenv("FAULTS_OWNER");
    if (!text || (of && atoi(of) != getpid()))
        return;
    owner = getpid();
    char number[16];
    snprintf(number, sizeof number, "%d", owner);
    setenv("FAULTS_OWNER", number, 1);
    snprintf(below, sizeof below, "%s/", text);
    text = getenv("FAULTS_EXCEPT");
    for (int i = 0; text && *text && i < 4; i++) {
        int length = (int)strcspn(text, ":");
        snprintf(except[i], sizeof except[i], "%.*s/", length, text);
        text += length + (text[length] == ':');
    }
    snprintf(kinds, sizeof kinds, ",%s,", (text = getenv("FAULTS_KINDS")) ? text : "");
    at = (text = getenv("FAULTS_AT")) ? atol(text) : 0;
    text = getenv("FAULTS_ACT");
    tear = text && !strcmp(text, "tear");
    fault = text ? atoi(text) : 0;
    lasting = (text = getenv("FAULTS_LASTING")) && *text == '1';
    if ((text = getenv("FAULTS_LOG")))
        log_fd = syscall(SYS_openat, AT_FDCWD, text,
                         O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        pause();
}

/* The action for a call: PASS, TEAR (half of a write, then death), HALF (a short write), or an
 * error's number. */
enum { PASS = 0, TEAR = -1, HALF = -2 };

static int count(const char *kind, const char *name, const char *path, int halves)
{
    char comma[32];
    snprintf(comma, sizeof comma, ",%s,", kind);
    if (owner != getpid() || !strstr(kinds, comma))
        return PASS;
    long number = atomic_fetch_add(&calls, 1) + 1;
    int now = at && (number == at || (fault && lasting && number > at));
    if (log_fd >= 0) {
        char line[PATH_MAX + 96];
        int length = snprintf(line, sizeof line, "%ld %s %s %s%s\n", number, kind, name, path,
                              now ? " FAULT" : "");
        syscall(SYS_write, log_fd, line, (size_t)length);
    }
    if (!now)
        return PASS;
    if (fault)
        return halves && lasting && number == at ? HALF : fault;
    if (tear && halves)
        return TEAR;
    die();
    return PASS;
}

/* Whether a path is the folder ``folder``, a name with a final slash, or is below it. */
static int is_in(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length - 1)
        && (path[length - 1] == '/' || !path[length - 1]);
}

static int counts(const char *path)
{
    for (int i = 0; i < 4; i++)
        if (is_in(path, except[i]))
            return 0;
    return owner && is_in(path, below);
}

static int of_descriptor(const char *kind, const char *name, int fd, int halves)
{
    if (owner != getpid() || fd == log_fd)
        return PASS;
    int before = errno;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return PASS;
    path[length] = 0;
    return counts(path) ? count(kind, name, path, halves) : PASS;
}

static int of_path(const char *kind, const char *name, int folder, const char *relative)
{
    if (owner != getpid() || !relative)
        return PASS;
    int before = errno;
    char path[2 * PATH_MAX], base[PATH_MAX] = "";
    if (*relative != '/') {
        if (folder == AT_FDCWD) {
            if (!getcwd(base, sizeof base))
                *base = 0;
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            ssize_t length = readlink(link, base, sizeof base - 1);
            base[length > 0 ? length : 0] = 0;
        }
    }
    snprintf(path, sizeof path, "%s%s%s", base, *base ? "/" : "", relative);
    errno = before;
    return counts(path) ? count(kind, name, path, 0) : PASS;
}

static int of_socket(const char *name, int fd)
{
    if (owner != getpid())
        return PASS;
    int before = errno;
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    int network = !getpeername(fd, (struct sockaddr *)&peer, &size)
        && (peer.ss_family == AF_INET || peer.ss_family == AF_INET6);
    errno = before;
    return network ? count("send", name, "network", 0) : PASS;
}

#define NEXT(name) \
    static __typeof__(&name) next; \
    if (!next) \
        next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL(act) \
    do { \
        int act_ = (act); \
        if (act_ > 0) { \
            errno = act_; \
            return -1; \
        } \
    } while (0)

#define WRITE(name, parameters, whole, half) \
    ssize_t name parameters \
    { \
        NEXT(name); \
        int act = of_descriptor("write", #name, fd, size > 1); \
        FAIL(act); \
        if (act == PASS) \
            return next whole; \
        ssize_t wrote = next half; \
        if (act == TEAR) \
            die(); \
        return wrote; \
    }

WRITE(write, (int fd, const void *data, size_t size), (fd, data, size), (fd, data, size / 2))
WRITE(pwrite, (int fd, const void *data, size_t size, off_t to), (fd, data, size, to),
      (fd, data, size / 2, to))
WRITE(pwrite64, (int fd, const void *data, size_t size, off64_t to), (fd, data, size, to),
      (fd, data, size / 2, to))

ssize_t writev(int fd, const struct iovec *parts, int number)
{
    NEXT(writev);
    FAIL(of_descriptor("write", "writev", fd, 0));
    return next(fd, parts, number);
}

#define OF_DESCRIPTOR(type, kind, name, parameters, arguments) \
    type name parameters \
    { \
        NEXT(name); \
        FAIL(of_descriptor(kind, #name, fd, 0)); \
        return next arguments; \
    }

OF_DESCRIPTOR(int, "sync", fsync, (int fd), (fd))
OF_DESCRIPTOR(int, "sync", fdatasync, (int fd), (fd))
OF_DESCRIPTOR(int, "size", ftruncate, (int fd, off_t size), (fd, size))
OF_DESCRIPTOR(int, "size", ftruncate64, (int fd, off64_t size), (fd, size))
OF_DESCRIPTOR(ssize_t, "read", read, (int fd, void *data, size_t size), (fd, data, size))
OF_DESCRIPTOR(ssize_t, "read", pread, (int fd, void *data, size_t size, off_t from),
              (fd, data, size, from))
OF_DESCRIPTOR(ssize_t, "read", pread64, (int fd, void *data, size_t size, off64_t from),
              (fd, data, size, from))

#define OF_PATH(kind, name, folder, path, parameters, arguments) \
    int name parameters \
    { \
        NEXT(name); \
        FAIL(of_path(kind, #name, folder, path)); \
        return next arguments; \
    }

OF_PATH("name", rename, AT_FDCWD, to, (const char *from, const char *to), (from, to))
OF_PATH("name", renameat, there, to, (int here, const char *from, int there, const char *to),
        (here, from, there, to))
OF_PATH("name", renameat2, there, to,
        (int here, const char *from, int there, const char *to, unsigned int flags),
        (here, from, there, to, flags))
OF_PATH("name", unlink, AT_FDCWD, path, (const char *path), (path))
OF_PATH("name", unlinkat, folder, path, (int folder, const char *path, int flags),
        (folder, path, flags))
OF_PATH("name", rmdir, AT_FDCWD, path, (const char *path), (path))
OF_PATH("name", mkdir, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
OF_PATH("name", mkdirat, folder, path, (int folder, const char *path, mode_t mode),
        (folder, path, mode))
OF_PATH("name", link, AT_FDCWD, to, (const char *from, const char *to), (from, to))

static const char *kind_of(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT ? "open" : "look";
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) \
    { \
        NEXT(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        FAIL(of_path(kind_of(flags), #name, AT_FDCWD, path)); \
        return next(path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) \
    { \
        NEXT(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        FAIL(of_path(kind_of(flags), #name, folder, path)); \
        return next(folder, path, flags, mode); \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* The name of open in programs that were built with _FORTIFY_SOURCE. */
int __open_2(const char *, int);
int __open64_2(const char *, int);
OF_PATH(kind_of(flags), __open_2, AT_FDCWD, path, (const char *path, int flags), (path, flags))
OF_PATH(kind_of(flags), __open64_2, AT_FDCWD, path, (const char *path, int flags), (path, flags))

#define SEND(name, parameters, arguments) \
    ssize_t name parameters \
    { \
        NEXT(name); \
        FAIL(of_socket(#name, fd)); \
        return next arguments; \
    }

SEND(send, (int fd, const void *data, size_t size, int flags), (fd, data, size, flags))
SEND(sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
SEND(sendto,
     (int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length),
     (fd, data, size, flags, to, length))
