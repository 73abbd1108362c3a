import { gross } from "./prices";

// Sums up a basket.
export const total = (prices: number[]) => prices.map(gross).reduce((a, b) => a + b, 0);
