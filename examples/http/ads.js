// Where ads lead to: a cache of adclick.ads, filled on demand. It is true as long as the connection is there
// by which the database tells what has changed (setup.sql); when that is lost, it may be used for a
// while, so that clicks are redirected while the database is away. It is emptied when it comes back.
'use strict';

const { setTimeout: delay } = require('node:timers/promises');
const { ofDatabase } = require('./errors');

const FIND = 'SELECT redirect_url AS url, active FROM adclick.ads WHERE ad_id = $1';
const HEARTBEAT = 1000; // ms

class Ads {
	#known = new Map(); // by id, the least recently used first
	#asked = new Map(); // promises of what the database is asked for
	#heard = -Infinity; // when the listening connection was last known to work
	#ended = new AbortController();

	constructor({ database, limit, staleAfter, log }) {
		Object.assign(this, { database, limit, staleAfter, log });
		// What is asked for before the database is listened to would not be kept.
		this.tried = new Promise(resolve => {
			this.listening = this.#listen(resolve);
		});
	}

	get size() {
		return this.#known.size;
	}

	// An ad, or undefined if there is none.
	async find(id) {
		const isTrue = performance.now() - this.#heard < this.staleAfter;
		const ad = isTrue ? this.#known.get(id) : undefined;

		if (!ad)
			return this.#asked.get(id) ?? this.#ask(id, isTrue);
		this.#known.delete(id);
		this.#known.set(id, ad);
		return ad;
	}

	// What is told to have changed meanwhile is not kept: #asked has forgotten that it was asked for.
	#ask(id, keep) {
		const asked = this.database.query({ name: 'ad', text: FIND, values: [id] }).then(({ rows: [ad] }) => {
			if (keep && ad && this.#asked.get(id) === asked)
				this.#keep(id, ad);
			return ad;
		}, error => {
			throw ofDatabase(error);
		}).finally(() => this.#asked.get(id) === asked && this.#asked.delete(id));

		this.#asked.set(id, asked);
		return asked;
	}

	#keep(id, ad) {
		if (this.#known.size >= this.limit)
			this.#known.delete(this.#known.keys().next().value);
		this.#known.set(id, ad);
	}

	#forget(id) {
		for (const map of [this.#known, this.#asked])
			id === 'all' ? map.clear() : map.delete(id);
	}

	async #listen(tried) {
		while (!this.#ended.signal.aborted) {
			let isHeard = false;
			const client = new this.database.Client({ ...this.database.pool.options, query_timeout: 2 * HEARTBEAT, connectionTimeoutMillis: 2 * HEARTBEAT });

			client.on('error', () => {});
			client.on('notification', ({ payload }) => this.#forget(payload));
			try {
				await client.connect();
				await client.query('LISTEN adclick_ads');
				this.#forget('all');
				isHeard = true;
				for (;;) {
					await client.query('SELECT');
					this.#heard = performance.now();
					tried();
					await delay(HEARTBEAT, undefined, { signal: this.#ended.signal });
				}
			} catch (error) {
				if (isHeard && !this.#ended.signal.aborted)
					this.log.warn({ code: error.code }, 'changes of ads are not heard of');
			}
			tried();
			client.end().catch(() => {});
			await delay(HEARTBEAT / 4, undefined, { signal: this.#ended.signal }).catch(() => {});
		}
	}

	close() {
		this.#ended.abort();
		return this.listening;
	}
}

module.exports = Ads;
