// The state of one episode, from the events of docs/serve.md: threads, calls, and where calls lie on both clocks.

export class Episode {
  constructor() {
    this.threads = new Map();
    this.calls = new Map();
    this.summary = null;
    this.answer = "";
    this.seconds = 0;
    this.at = performance.now();
  }

  /** Seconds since the episode began: by the last event, and by the clock since then while it runs. */
  now() {
    return this.summary ? this.seconds : this.seconds + (performance.now() - this.at) / 1000;
  }

  take(event) {
    if (typeof event.seconds === "number") {
      this.seconds = Math.max(this.seconds, event.seconds);
      this.at = performance.now();
    }
    const thread = this.threads.get(event.thread);
    const call = this.calls.get(event.call);
    switch (event.event) {
      case "thread.opened":
        this.threads.set(event.thread, {
          name: event.thread, parent: event.parent, role: "", calls: [], joined: [], outcome: "", limit: null, text: "", tokens: 0,
        });
        break;
      case "call.started":
        this.begin(thread, event);
        break;
      case "thread.text":
        call.tokens += event.tokens;
        thread.tokens += event.tokens;
        thread.text += event.text;
        break;
      case "call.restarted":
        thread.tokens -= call.tokens;
        call.tokens = 0;
        break;
      case "call.ended":
        thread.tokens += event.tokens - call.tokens;
        Object.assign(call, { tokens: event.tokens, stop: event.stop, from: event.started_s, until: event.finished_s });
        call.start = event.critical_tokens - event.tokens;
        thread.text += "\n";
        break;
      case "thread.joined":
        thread.joined = event.children;
        break;
      case "thread.closed":
        Object.assign(thread, { outcome: event.outcome, limit: event.limit, success: event.success });
        break;
      case "episode.ended":
        this.summary = event;
        break;
    }
  }

  begin(thread, event) {
    const last = (name) => this.threads.get(name)?.calls.at(-1);
    const before = thread.calls.length ? [thread.calls.at(-1), ...thread.joined.map(last)] : [last(thread.parent)];
    const after = before.filter(Boolean);
    const call = {
      number: event.call, thread: thread.name, role: event.role, context: event.context_tokens, tokens: 0, stop: "",
      after, start: Math.max(0, ...after.map((each) => each.start + each.tokens)), from: event.seconds, until: null,
    };
    thread.joined = [];
    thread.role ||= event.role;
    thread.calls.push(call);
    this.calls.set(event.call, call);
  }

  /** Threads depth first, children below their parent. */
  ordered() {
    const found = [];
    const walk = (parent) => {
      for (const thread of this.threads.values()) {
        if (thread.parent !== parent) continue;
        found.push(thread);
        walk(thread.name);
      }
    };
    walk(null);
    return found;
  }

  total() {
    return [...this.threads.values()].reduce((sum, thread) => sum + thread.tokens, 0);
  }

  critical() {
    return Math.max(0, ...[...this.calls.values()].map((call) => call.start + call.tokens));
  }

  running() {
    return [...this.calls.values()].filter((call) => !call.stop).length;
  }

  /** Calls on the longest path; among equals those that began first. */
  criticalPath() {
    const path = new Set();
    const end = (call) => call.start + call.tokens;
    let at = [...this.calls.values()].reduce((best, call) => (!best || end(call) > end(best) ? call : best), null);
    while (at) {
      path.add(at);
      at = at.after.reduce((best, call) => (!best || end(call) > end(best) ? call : best), null);
    }
    return path;
  }
}
