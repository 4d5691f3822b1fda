/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  The background workers.
 *
 * A launcher for the server; an aggregator and a compactor in each database that
 * has the extension, and a reader if it has log files to read.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_WORKER_H
#define ADCLICK_WORKER_H

#include "postgres.h"

/* Register the launcher; while shared libraries are preloaded. */
extern void worker_register_launcher(void);

/* Entry points, called by the server. */
extern PGDLLEXPORT void adclick_launcher_main(Datum arg);
extern PGDLLEXPORT void adclick_aggregator_main(Datum arg);
extern PGDLLEXPORT void adclick_compactor_main(Datum arg);
extern PGDLLEXPORT void adclick_reader_main(Datum arg);

/* How long to wait before what failed so many times in a row is tried again: a chore, or the start of a worker. */
extern int64 worker_backoff_ms(int failures);

#endif							/* ADCLICK_WORKER_H */
