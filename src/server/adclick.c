/*-------------------------------------------------------------------------
 *
 * adclick.c
 *	  What happens when the module is loaded.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "base/adclick.h"
#include "base/shmem.h"
#include "core/facts.h"
#include "query/own_ads.h"
#include "query/restore.h"
#include "seen/seen.h"
#include "store/store.h"
#include "utility.h"
#include "worker.h"
#include "write/tick.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static void
check_for_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("adclick must be loaded when the server starts"),
				 errdetail("It keeps workers and shared memory."),
				 errhint("Add adclick to shared_preload_libraries in postgresql.conf and restart the server.")));
	facts_pause = check_for_interrupts;
	guc_define();
	shmem_install();
	store_install();
	seen_install();
	tick_install();
	restore_install();
	own_ads_install();
	utility_install();
	worker_register_launcher();
}
