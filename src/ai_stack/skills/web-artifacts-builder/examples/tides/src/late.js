export const title = n => n + ' tides';
