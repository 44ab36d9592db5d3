/*
 * run COUNT AT_ONCE COMMAND [ARG]...
 *
 * Starts COMMAND COUNT times, AT_ONCE at a time, and prints for each: nanoseconds from before the fork to after the
 * wait, nanoseconds of processor time, and the peak resident KiB of its largest process. The last line is the wall
 * time of all of them. {} in an argument becomes a number of its own for each run. stdout goes to /dev/null.
 * In C, and by vfork, so that what is measured is the command and not who starts it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 4096

static struct { pid_t pid; long long begun; } running[MOST];

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static long long nanoseconds(struct timeval t)
{
	return t.tv_sec * 1000000000LL + t.tv_usec * 1000LL;
}

static pid_t start(char **argv, int argc, long number, int out)
{
	static char made[64][256];
	char *words[argc + 1];
	for (int i = 0, n = 0; i < argc; i++) {
		char *at = strstr(argv[i], "{}");
		words[i] = argv[i];
		if (at && n < 64) {
			snprintf(made[n], sizeof made[n], "%.*s%d-%ld%s", (int)(at - argv[i]), argv[i], getpid(), number, at + 2);
			words[i] = made[n++];
		}
	}
	words[argc] = NULL;
	pid_t pid = vfork();
	if (pid == 0) {
		dup2(out, 1);
		execvp(words[0], words);
		_exit(errno == ENOENT ? 127 : 126);
	}
	return pid;
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: run COUNT AT_ONCE COMMAND [ARG]...\n");
		return 2;
	}
	long count = atol(argv[1]), at_once = atol(argv[2]), started = 0, ended = 0, failed = 0;
	if (at_once < 1 || at_once > MOST)
		return 2;
	int out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	long long begun = now();
	while (ended < count) {
		while (started < count && started - ended < at_once) {
			int slot = 0;
			while (running[slot].pid)
				slot++;
			running[slot].begun = now();
			running[slot].pid = start(argv + 3, argc - 3, started, out);
			if (running[slot].pid < 0) {
				perror("run: vfork");
				return 2;
			}
			started++;
		}
		int status;
		struct rusage used;
		pid_t pid = wait4(-1, &status, 0, &used);
		long long end = now();
		for (int slot = 0; slot < at_once; slot++)
			if (running[slot].pid == pid) {
				printf("%lld %lld %ld\n", end - running[slot].begun,
				       nanoseconds(used.ru_utime) + nanoseconds(used.ru_stime), used.ru_maxrss);
				running[slot].pid = 0;
				ended++;
				failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
			}
	}
	printf("%lld\n", now() - begun);
	if (failed)
		fprintf(stderr, "run: %s: %ld of %ld failed\n", argv[3], failed, count);
	return failed != 0;
}
