/*-------------------------------------------------------------------------
 *
 * own_ads.h
 *	  The ads of who knows some ads only.
 *
 * Portions Copyright (c) 2026, the adclick authors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ADCLICK_OWN_ADS_H
#define ADCLICK_OWN_ADS_H

/* Hide the ads of others from plans: called once, when the module is loaded. */
extern void own_ads_install(void);

#endif							/* ADCLICK_OWN_ADS_H */
