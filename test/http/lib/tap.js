// What node:test tells, as TAP whose diagnostics are comments.
'use strict';

module.exports = async function* tap(events) {
	for await (const { type, data } of events) {
		if (data.nesting > 0)
			continue;
		if (type === 'test:plan')
			yield `1..${data.count}\n`;
		else if (type === 'test:pass')
			yield `ok ${data.testNumber} - ${data.name}\n`;
		else if (type === 'test:fail')
			yield `not ok ${data.testNumber} - ${data.name}\n${(data.details.error.cause?.stack ?? data.details.error.message).replace(/^/gm, '# ')}\n`;
	}
};
