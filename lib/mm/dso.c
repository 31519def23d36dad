/* SPDX-License-Identifier: MIT */
/*
 * dso.c - addresses of code: the object that they lie in.
 *
 * Purpose. Rules of memory groups ask whose library a caller is (memcg_rules.c), the out-of-memory report names callers.
 * dladdr(3) would take a lock of ld.so's, which another thread may hold while it waits for memory; _dl_find_object(),
 * which unwinders use, takes none. Where there is no such function the registry of VMAs tells the file's name.
 *
 * Locks. None; the registry's own.
 *
 * Kernel counterpart. kernel/kallsyms.c, sprint_symbol(); mm/memory.c, print_vma_addr().
 */
#include "mm/dso.h"

#include "base/printk.h"
#include "mm/mm_struct.h"
#include <string.h>

#if HAVE_FIND_DSO
extern __typeof__(_dl_find_object) _dl_find_object __attribute__((weak));

struct link_map_head {		/* the public part of struct link_map */
	uintptr_t l_addr;
	char *l_name;
};

bool find_dso(const void *addr, struct dso *dso)
{
	struct dl_find_object found;
	const struct link_map_head *map;
	const char *slash;

	if (!_dl_find_object || _dl_find_object((void *)(uintptr_t)addr, &found) != 0)
		return false;
	map = (const struct link_map_head *)found.dlfo_link_map;
	slash = map->l_name ? strrchr(map->l_name, '/') : NULL;
	*dso = (struct dso){
		.start = (uintptr_t)found.dlfo_map_start,
		.end = (uintptr_t)found.dlfo_map_end,
		.base = map->l_addr,
		.name = slash ? slash + 1 : map->l_name ? map->l_name : "",
	};
	return true;
}
#else
bool find_dso(const void *addr, struct dso *dso)
{
	(void)addr;
	(void)dso;
	return false;
}
#endif

static bool find_imported_vma(uintptr_t addr, struct vm_area_struct *vma)
{
	for (int tries = 0; tries < 2; tries++) {
		if (find_vma(addr, vma) && addr >= vma->vm_start)
			return true;
		if (tries == 0)
			mm_import();
	}
	return false;
}

void format_code_address(char *buf, size_t size, const void *addr)
{
	struct vm_area_struct vma;
	struct dso dso;

	if (find_dso(addr, &dso))
		kmm_snprintf(buf, size, "%s+0x%lx", dso.name[0] ? dso.name : "the program", (uintptr_t)addr - dso.base);
	else if (find_imported_vma((uintptr_t)addr, &vma))
		kmm_snprintf(buf, size, "0x%lx in %s", (uintptr_t)addr, vma.name[0] ? vma.name : vma_kind_names[vma.kind]);
	else
		kmm_snprintf(buf, size, "0x%lx", (uintptr_t)addr);
}
