export { decode, encode } from "cborg";
