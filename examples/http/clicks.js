// Clicks on their way into the database: those of some milliseconds in one statement, or, while it is away,
// into the spool. Each has its id and its time from when it came, so one that is inserted twice, as
// nobody knows whether a commit was one, counts once.
'use strict';

const { randomUUID } = require('node:crypto');
const { setTimeout: delay } = require('node:timers/promises');
const { Problem, isRefused, ofDatabase } = require('./errors');

const INSERT = `INSERT INTO adclick.clicks (click_id, ad_id, clicked_at, user_id, ip, country, region, device)
	SELECT adclick.click_id(click_id, clicked_at, ad_id, user_id, impression), ad_id, clicked_at, user_id, ip, country, region, device
	FROM json_to_recordset($1) c (click_id uuid, ad_id bigint, clicked_at timestamptz, user_id bigint, impression text,
		ip inet, country text, region text, device text)`;
const TOGETHER = 1000; // in a statement
const AT_MOST = 20000; // that wait for one
const RETRY = 250; // ms, and twice as much each time, as a server that hangs has a process left of each
const RETRY_AT_MOST = 30000;

// RFC 9562, version 7: with the time at its begin.
const newId = time => `${time.toString(16).padStart(12, '0')}7${randomUUID().replaceAll('-', '').slice(13)}`;

class Clicks {
	#queue = [];
	#writing = null; // what takes from the queue
	#replaying = null; // what empties the spool
	#ended = new AbortController();
	#trouble; // why clicks cannot wait
	isAway = false;
	refused = 0; // since the start

	constructor({ database, spool, log }) {
		Object.assign(this, { database, spool, log });
		this.#replaying = this.#replay(); // also what a crash has left
	}

	// Durable when it returns.
	add(click) {
		const time = Date.now();
		const line = JSON.stringify({ click_id: newId(time), clicked_at: new Date(time), ...click });

		if (this.#queue.length >= AT_MOST)
			throw new Problem(503, 'too many clicks at once');
		return new Promise((resolve, reject) => {
			this.#queue.push({ line, resolve, reject });
			this.#writing ??= this.#write();
		});
	}

	async close() {
		await this.#writing;
		this.#ended.abort();
		await this.#replaying;
		await this.spool.close();
	}

	async #write() {
		await null; // what comes at the same time goes with it
		while (this.#queue.length > 0) {
			const some = this.#queue.splice(0, TOGETHER);

			try {
				const refused = await this.#keep(some.map(({ line }) => line));

				for (const { line, resolve, reject } of some)
					refused.has(line) ? reject(refused.get(line)) : resolve();
			} catch (error) {
				some.forEach(({ reject }) => reject(error));
			}
		}
		this.#writing = null;
	}

	async #keep(lines) {
		if (!this.isAway)
			try {
				return await this.#send(lines);
			} catch {
				// it is away now
			}
		await this.spool.append(lines).then(() => this.#tell(), error => {
			this.#tell(error);
			throw error;
		}).finally(() => {
			this.#replaying ??= this.#replay();
		});
		return new Map();
	}

	// Once, not for each click.
	#tell(error) {
		if (error && error.message !== this.#trouble)
			this.log.warn({ code: error.code }, error.message);
		this.#trouble = error?.message;
	}

	// As #insert(), which shows whether the database is there.
	async #send(lines) {
		try {
			const refused = await this.#insert(lines);

			if (this.isAway)
				this.log.info('the database is back');
			this.isAway = false;
			this.refused += refused.size;
			if (refused.size > 0)
				this.log.warn({ code: refused.values().next().value.code, clicks: refused.size }, 'the database refused clicks');
			return refused;
		} catch (error) {
			if (!this.isAway)
				this.log.warn({ code: error.code }, 'the database is away: clicks wait in the spool');
			this.isAway = true;
			throw error;
		}
	}

	// The lines that the database refuses, with why: what comes with them shall not fail, too.
	async #insert(lines) {
		try {
			await this.database.query({ name: 'clicks', text: INSERT, values: [`[${lines}]`] });
			return new Map();
		} catch (error) {
			if (!isRefused(error))
				throw error;
			if (lines.length === 1)
				return new Map([[lines[0], ofDatabase(error)]]);
		}
		const refused = new Map();

		for (const line of lines)
			for (const entry of await this.#insert([line]))
				refused.set(...entry);
		return refused;
	}

	async #replay() {
		let wait = RETRY;
		let told; // the last trouble with the files

		do
			try {
				await this.#send([]); // is it there?
				await this.spool.replay(async lines => {
					for (const [line] of await this.#send(lines))
						await this.spool.refuse(line);
					wait = RETRY;
				});
			} catch (error) {
				if (!this.isAway && error.code !== told)
					this.log.warn({ code: told = error.code }, 'what waits in the spool cannot be replayed');
				await delay(wait, undefined, { signal: this.#ended.signal }).catch(() => {});
				wait = Math.min(2 * wait, RETRY_AT_MOST);
			}
		while (!this.#ended.signal.aborted && (this.isAway || this.spool.bytes > 0));
		this.#replaying = null;
	}
}

module.exports = Clicks;
