/* What std and gcc's unwinder take from glibc and musl does not have. */

#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <stdint.h>

/* dl_find_object(3), glibc 2.35: how the unwinder finds the frames of a code address. It looks nowhere else,
 * and aborts where it is told nothing of its own caller. As x86_64 has the struct. */
struct dl_find_object {
	unsigned long long flags;
	void *map_start, *map_end;
	struct link_map *link_map;
	void *eh_frame;
	unsigned long long reserved[7];
};

struct search {
	uintptr_t address;
	struct dl_find_object *found;
	int status;
};

static int look(struct dl_phdr_info *object, size_t size, void *data)
{
	struct search *search = data;
	uintptr_t frames = 0, start = 0, end = 0;

	(void)size;
	for (int i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
		uintptr_t at = object->dlpi_addr + segment->p_vaddr;
		if (segment->p_type == PT_GNU_EH_FRAME)
			frames = at;
		else if (segment->p_type == PT_LOAD && search->address >= at && search->address - at < segment->p_memsz)
			start = at, end = at + segment->p_memsz;
	}
	if (!frames || !end)
		return 0;
	*search->found = (struct dl_find_object){.map_start = (void *)start, .map_end = (void *)end, .eh_frame = (void *)frames};
	search->status = 0;
	return 1;
}

int _dl_find_object(void *address, struct dl_find_object *found)
{
	struct search search = {(uintptr_t)address, found, -1};
	dl_iterate_phdr(look, &search);
	return search.status;
}

/* The unwinder's references to these are weak, and it calls them all where one of them is there: name them, so that
 * the linker takes them from musl's archive. */
__attribute__((used)) static void *const threads[] = {
	(void *)pthread_once, (void *)pthread_key_create, (void *)pthread_getspecific, (void *)pthread_setspecific,
	(void *)pthread_mutex_lock, (void *)pthread_mutex_unlock,
};

/* std asks for glibc's version before it uses posix_spawn (2.24 and later); with an older one it forks and executes,
 * as it does on any libc. */
const char *gnu_get_libc_version(void)
{
	return "2.0";
}
