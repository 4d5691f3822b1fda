// Chromium, without a window, by the pipe of its DevTools.
'use strict';

const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

class Browser {
	#id = 0;
	#asked = new Map();
	#whenLoaded = () => {};
	complaints = []; // errors, warnings and exceptions of the page

	static async start(program) {
		const browser = new Browser();

		browser.profile = fs.mkdtempSync(path.join(os.tmpdir(), 'browser.'));
		browser.process = spawn(program, ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking',
			'--hide-scrollbars', '--remote-debugging-pipe', `--user-data-dir=${browser.profile}`, '--window-size=1100,800'],
		{ stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'], env: { ...process.env, HOME: browser.profile } });
		let said = '';
		browser.process.stdio[4].setEncoding('utf8').on('data', text => {
			const messages = (said + text).split('\0');

			said = messages.pop();
			messages.forEach(message => browser.#hear(JSON.parse(message)));
		});
		const { targetId } = await browser.#call('Target.createTarget', { url: 'about:blank' });
		browser.session = (await browser.#call('Target.attachToTarget', { targetId, flatten: true })).sessionId;
		for (const domain of ['Page', 'Runtime', 'Log'])
			await browser.#call(`${domain}.enable`);
		return browser;
	}

	#hear({ id, method, params, result, error }) {
		if (id)
			error ? this.#asked.get(id).reject(new Error(error.message)) : this.#asked.get(id).resolve(result);
		else if (method === 'Page.loadEventFired')
			this.#whenLoaded();
		else if (method === 'Runtime.exceptionThrown')
			this.complaints.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
		else if (method === 'Log.entryAdded' && ['warning', 'error'].includes(params.entry.level) && params.entry.source !== 'network')
			this.complaints.push(params.entry.text);
	}

	#call(method, params = {}) {
		const id = ++this.#id;

		this.process.stdio[3].write(JSON.stringify({ id, method, params, sessionId: this.session }) + '\0');
		return new Promise((resolve, reject) => this.#asked.set(id, { resolve, reject }));
	}

	// Another # alone would load nothing.
	async open(url) {
		for (const to of ['about:blank', url]) {
			const loaded = new Promise(resolve => this.#whenLoaded = resolve);

			await this.#call('Page.navigate', { url: to });
			await loaded;
		}
	}

	async evaluate(expression) {
		const { result, exceptionDetails } = await this.#call('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true });

		if (exceptionDetails)
			throw new Error(exceptionDetails.exception?.description);
		return result.value;
	}

	async resize(width, height, scheme = 'light') {
		await this.#call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false });
		await this.#call('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: scheme }] });
	}

	async screenshot(file) {
		fs.writeFileSync(file, Buffer.from((await this.#call('Page.captureScreenshot', { format: 'png' })).data, 'base64'));
	}

	async close() {
		const exited = once(this.process, 'exit');

		this.#call('Browser.close').catch(() => {});
		await exited;
		fs.rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
	}
}

module.exports = Browser;
