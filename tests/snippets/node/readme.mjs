// The block of README.md, which does not renew.
import { common } from './trials.mjs';

common();
