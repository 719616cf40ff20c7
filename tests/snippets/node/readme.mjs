// The block of README.md, which does not renew.
import { connect } from './locks.mjs';
import { common } from './trials.mjs';

await common(connect);
