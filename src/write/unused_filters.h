/*-------------------------------------------------------------------------
 *
 * unused_filters.h
 *	  Ending combinations of dimensions that no stored click has any more.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_UNUSED_FILTERS_H
#define ADCLICK_UNUSED_FILTERS_H

/*
 * End those whose last day is before all that is stored, after something was dropped; not while
 * somebody brings clicks back from files.
 */
extern void unused_filters_end(void);

#endif							/* ADCLICK_UNUSED_FILTERS_H */
