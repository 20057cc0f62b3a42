// Follows a user's summary as it is written.

import { Api } from "../api.js";

const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 15000;
const FINAL = [400, 401, 403]; // asking again changes nothing

export class LiveSummary {
  /** `on` has a method for each event of the stream: pending, delta, version, changed, error; and unknown, refused and
   * connecting for the stream itself. */
  constructor(api, user, on) {
    this.api = api;
    this.user = user;
    this.on = on;
  }

  close() {
    this.following?.abort();
  }

  /** Until `close`; comes back when the connection breaks. */
  async follow() {
    this.close();
    const following = new AbortController();
    this.following = following;
    const path = Api.user(this.user, "/preferences/stream");
    let lastId;
    let delay = FIRST_DELAY_MS;
    while (!following.signal.aborted) {
      let problem = null;
      try {
        const headers = lastId ? { "Last-Event-ID": lastId } : {};
        for await (const event of this.api.events("GET", path, { headers, signal: following.signal })) {
          lastId = event.id || lastId;
          delay = FIRST_DELAY_MS;
          this.on[event.event]?.(JSON.parse(event.data));
        }
      } catch (error) {
        if (following.signal.aborted) return;
        if (error.code === "user_unknown") return this.on.unknown();
        if (FINAL.includes(error.status)) return this.on.refused(error);
        problem = error;
      }
      if (following.signal.aborted) return;
      this.on.connecting(problem);
      await new Promise((resume) => setTimeout(resume, delay));
      delay = Math.min(delay * 2, LONGEST_DELAY_MS);
    }
  }
}
