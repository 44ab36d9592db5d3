/*
 * The floor for starting a container: the system calls of the chain and nothing else.
 *
 *   one-program ROOT COMMAND                      all of them in one program (-DLINK=0)
 *   isolate pivot mountclean ROOT COMMAND         one program a link, chained by exec (-DLINK=1, 2, 3)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define try(call) do { if ((call) < 0) { perror(#call); exit(125); } } while (0)

__attribute__((unused)) static void isolate(void)
{
	try(unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID));
	pid_t child = fork();
	try(child);
	if (child) {
		int status;
		try(waitpid(child, &status, 0));
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	}
	try(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
}

__attribute__((unused)) static void pivot(const char *root)
{
	try(mount(root, root, NULL, MS_BIND | MS_REC, NULL));
	try(chdir(root));
	try(syscall(SYS_pivot_root, ".", "."));
}

__attribute__((unused)) static void mountclean(void)
{
	try(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
	try(umount2(".", MNT_DETACH));
	try(chdir("/"));
}

int main(int argc, char **argv, char **envp)
{
	if (argc < 3)
		return 125;
#if LINK == 0
	isolate();
	pivot(argv[1]);
	mountclean();
	execve(argv[2], argv + 2, envp);
#elif LINK == 1
	isolate();
	execve(argv[1], argv + 1, envp);
#elif LINK == 2
	/* The next program is one of the host's, and has to be held while it can be reached. */
	int next = open(argv[1], O_PATH | O_CLOEXEC);
	try(next);
	pivot(argv[2]);
	syscall(SYS_execveat, next, "", argv + 1, envp, AT_EMPTY_PATH);
#else
	mountclean();
	execve(argv[2], argv + 2, envp);
#endif
	perror("exec");
	return 126;
}
